"""Logs: what the service said, with repeats folded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec
from textual.binding import Binding, BindingType

from tui import units
from tui.board import LOG_LINES_MAX, Board
from tui.drawing.frame import KeyHint
from tui.lines import Line, Role, line
from tui.look import Look
from tui.messages import ShowText
from tui.screens.filtered import FilteredScreen, filter_keys
from tui.source import Level, LogLine
from tui.widgets.columns import Column
from tui.widgets.virtual_log import VirtualLog
from tui.word_filter import word_filter

_LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error", "critical")
_WORDS: Final[dict[Level, str]] = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARN",
    "error": "ERROR",
    "critical": "CRIT",
}


@dataclass(slots=True)
class Folded:
    """A line that came `count` times in a row; newest: the last of them. The screen is its only writer.

    marked: somebody wants to find it again.
    """

    newest: LogLine
    count: int = 1
    marked: bool = False


class Logs(FilteredScreen):
    """Filter: a level, then words, as in `warning auth`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *filter_keys("logs"),
        Binding("f", "follow", "follow the newest, or stay", show=False, id="logs.follow"),
        Binding("w", "wrap", "long lines go on below, or are cut", show=False, id="logs.wrap"),
        Binding("m", "mark", "mark this line, or not", show=False, id="logs.mark"),
        Binding("M", "next_mark", "the next marked line", show=False, id="logs.next_mark"),
        Binding("n", "next_error(1)", "the next failure", show=False, id="logs.next_error"),
        Binding("N", "next_error(-1)", "the failure before", show=False, id="logs.previous_error"),
    ]
    hints: ClassVar[tuple[KeyHint, ...]] = (
        KeyHint("?", "Help"),
        KeyHint("/", "Filter"),
        KeyHint("f", "Follow"),
        KeyHint("w", "Wrap"),
        KeyHint("m", "Mark"),
        KeyHint("n", "NextErr"),
        KeyHint("e", "Export"),
        KeyHint("M", "Next mark", wide=True),
        KeyHint("Enter", "Detail", wide=True),
        KeyHint("p", "Pause", wide=True),
        KeyHint("q", "Quit", wide=True),
    )

    def __init__(self, look: Look, board: Board) -> None:
        super().__init__(look, board, id="logs")
        self._last: Folded | None = None
        self.rows: VirtualLog[Folded] = VirtualLog(self._columns(), look, rows_max=LOG_LINES_MAX, id="logs-rows")

    def take(self, lines: Sequence[LogLine]) -> None:
        """New lines, oldest of them first."""
        new: list[Folded] = []
        for one in lines:
            last = self._last
            if last is not None and (last.newest.message, last.newest.logger) == (one.message, one.logger):
                last.newest, last.count = one, last.count + 1
                self.rows.redraw()
            else:
                self._last = Folded(one)
                new.append(self._last)
        self.rows.extend(new)

    def paint(self, now: float) -> None:
        """The list draws itself."""
        super().paint(now)
        self.rows.empty = self.nothing(self.look.say("No lines"), self.board.refused.get("logs"))

    def beside(self) -> Line:
        """Whether the newest is followed, and how many there are."""
        ring = self.rows.ring
        follow = self.look.say("follow ON" if self.rows.follow else "follow off")
        shown = f"{units.thousands(len(ring))} {self.look.say('of')} " if ring.filtered else ""
        return line(f"{follow}   {shown}{units.thousands(ring.total)} {self.look.say('lines')} ")

    def status(self) -> Line:
        """What is wrong with the filter, or what lines are."""
        said = self.look.say("identical lines fold to (xN); Enter shows the full record")
        return super().status() or line((f" {said}", "dim"))

    def action_follow(self) -> None:
        """Follows the newest, or stays."""
        self.rows.set_follow(not self.rows.follow)

    def action_next_error(self, step: int) -> None:
        """To the next line from `error` on."""
        self.go_to_failure(step, _at_least("error"))

    def action_wrap(self) -> None:
        """Shows long lines in full, or cuts them."""
        self.rows.set_wrap(not self.rows.wraps)

    def action_mark(self) -> None:
        """Marks the line under the cursor, or takes its mark away."""
        row = self.rows.selected
        if row is not None:
            row.marked = not row.marked
            self.rows.redraw()

    def action_next_mark(self) -> None:
        """Further down; from the last one to the first."""
        ring, here = self.rows.ring, self.rows.position
        found = ring.find(here + 1, 1, _is_marked)
        if found is None:
            found = ring.find(0, 1, _is_marked)
        if found is None:
            self.say("no line here is marked: m marks one")
        else:
            self.rows.go(found)

    def on_virtual_log_opened(self, message: VirtualLog.Opened) -> None:
        """The whole record."""
        message.stop()
        row = self.rows.selected
        if row is not None:
            text = msgspec.json.format(msgspec.json.encode(row.newest), indent=2).decode()
            self.post_message(ShowText(f"{row.newest.logger} {_WORDS[row.newest.level]}", text))

    def narrow(self, text: str) -> None:
        """By level and words."""
        self.rows.select(log_filter(text))

    def _columns(self) -> tuple[Column[Folded], ...]:
        look = self.look
        return (
            Column("TIME", 13, lambda row: _time(row, look) + (look.glyphs.point if row.marked else "")),
            Column("LEVEL", 5, lambda row: _WORDS[row.newest.level], role=_role),
            Column("PART", 8, lambda row: row.newest.logger.removeprefix("appliance."), width_max=16),
            Column("MESSAGE", 20, lambda row: row.newest.message + (f"  (x{row.count})" if row.count > 1 else "")),
        )


def log_filter(text: str) -> Callable[[Folded], bool] | None:
    """`level>=warning` or a level's name, and words. Raises WordFilterError."""
    words = text.split()
    lowest = next((word for word in words if word.removeprefix("level>=") in _LEVELS or word == "level>=warn"), None)
    rest = " ".join(word for word in words if word is not lowest)
    matches = word_filter(rest, _FIELDS)
    if lowest is None:
        return matches
    name = lowest.removeprefix("level>=")
    high_enough = _at_least("warning" if name == "warn" else name)
    return high_enough if matches is None else lambda row: high_enough(row) and matches(row)


def _at_least(level: str) -> Callable[[Folded], bool]:
    lowest = [str(one) for one in _LEVELS].index(level)
    return lambda row: _LEVELS.index(row.newest.level) >= lowest


def _is_marked(row: Folded) -> bool:
    return row.marked


def _time(row: Folded, look: Look) -> str:
    return f"{units.clock(row.newest.time, look.zone)}.{int(row.newest.time % 1 * 1000):03d}"


def _role(row: Folded) -> Role:
    return "bad" if row.newest.level in ("error", "critical") else "warn" if row.newest.level == "warning" else "dim"


_FIELDS: Final = {
    "level": lambda row: row.newest.level,
    "part": lambda row: row.newest.logger,
    "message": lambda row: row.newest.message,
}
