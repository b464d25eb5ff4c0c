"""A list over the screen, of which one row is chosen, by a key that says what for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key, Resize
from textual.screen import ModalScreen

from tui.drawing.box import box
from tui.lines import Line, line, stretched, styled
from tui.look import Look
from tui.theme import ThemeName
from tui.widgets.lines_view import LinesView


@dataclass(frozen=True, slots=True)
class Picked:
    """place: of the row. key: that was pressed on it."""

    place: int
    key: str


class Pick(ModalScreen["Picked | None"]):
    """rows: each the lines of one thing. keys: what they do, by Textual's name of the key; Esc and q close."""

    CSS = """
    Pick { align: center middle; background: $background 0%; }
    Pick LinesView { width: 90%; height: 80%; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "close", show=False, id="pick.close"),
        Binding("down,j", "move(1)", "down", show=False, id="list.down"),
        Binding("up,k", "move(-1)", "up", show=False, id="list.up"),
    ]

    def __init__(
        self,
        title: str,
        rows: Sequence[Sequence[Line]],
        keys: Mapping[str, str],
        empty: str,
        look: Look,
        theme: ThemeName,
    ) -> None:
        super().__init__()
        self._title = title
        self._rows = rows
        self._keys = keys
        self._empty = empty
        self._look = look
        self._style = theme
        self._chosen = 0

    def compose(self) -> ComposeResult:
        """One block of lines."""
        yield LinesView(self._look, id="pick-body", can_focus=True)

    def on_mount(self) -> None:
        """On the first row."""
        view = self.query_one(LinesView)
        view.restyle(self._style)
        view.focus()
        self.call_after_refresh(self._paint)

    def on_resize(self, event: Resize) -> None:
        """For the new size."""
        self.call_after_refresh(self._paint)

    def on_key(self, event: Key) -> None:
        """What is to be done with the row."""
        if event.key in self._keys and self._rows:
            event.stop()
            self.dismiss(Picked(self._chosen, event.key))

    def action_move(self, rows: int) -> None:
        """Down or up."""
        self._chosen = max(0, min(len(self._rows) - 1, self._chosen + rows))
        self._paint()

    def _paint(self) -> None:
        view = self.query_one(LinesView)
        width, height = view.size
        if width < 10 or height < 4:
            return
        lines: list[Line] = []
        first = 0
        for place, row in enumerate(self._rows):
            if place == self._chosen:
                first = max(0, len(lines) + len(row) - (height - 4))
                lines += [line(" ", styled(row[0], "cursor")), *(line(" ", one) for one in row[1:])]
            else:
                lines += [line(" ", one) for one in row]
        if not lines:
            lines = [line((f" {self._empty}", "dim"))]
        say = self._look.say
        hint = "   ".join(f"{_shown(key)} {say(word)}" for key, word in self._keys.items()) if self._rows else ""
        body = [*stretched(lines[first:], height - 4), (), line((f" {hint}", "accent"))]
        closes = line((f"Esc {say('closes')} ", "dim"))
        view.show(box(line(self._title), body, width, self._look.glyphs, right=closes))


def _shown(key: str) -> str:
    return {"enter": "Enter"}.get(key, key)
