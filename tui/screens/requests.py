"""Requests: every one of the newest, a filter that follows the typing, and one of them in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from appliance.errors import ApplianceError
from appliance.safe_text import safe_text
from appliance.telemetry.request_filter import RequestFilter, parse
from appliance.telemetry.request_record import RequestRecord
from tui import units
from tui.board import REQUESTS_MAX, Board
from tui.drawing.frame import KeyHint
from tui.drawing.request_detail import LINES, request_detail
from tui.drawing.request_rows import RIGHT, cell, failed, role_of
from tui.lines import Line, line
from tui.look import Look
from tui.messages import Said, ShowText
from tui.older import Older
from tui.screens.asking import Ask
from tui.screens.filtered import FilteredScreen, filter_keys
from tui.widgets.columns import Column
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog

# Title, cells at least and at most, and which go first where there is no room (the highest).
_COLUMNS: Final = (
    ("TIME", 8, 8, 0),
    ("ST", 3, 3, 0),
    ("METHOD", 6, 6, 9),
    ("PATH", 20, 24, 8),
    ("MODEL", 10, 18, 1),
    ("KEY", 12, 16, 0),
    ("CLIENT", 14, 15, 4),
    ("IN", 5, 6, 3),
    ("OUT", 5, 6, 2),
    ("QUEUE", 5, 5, 7),
    ("TTFT", 5, 5, 2),
    ("ITL", 5, 5, 6),
    ("DUR", 6, 6, 0),
    ("FINISH", 6, 6, 5),
    ("ERROR", 15, 15, 0),
)
_SETS: Final[tuple[tuple[str, ...], ...]] = (
    tuple(name for name, *_ in _COLUMNS),
    ("TIME", "ST", "MODEL", "IN", "OUT", "QUEUE", "TTFT", "ITL", "DUR", "FINISH"),
    ("TIME", "ST", "KEY", "CLIENT", "METHOD", "PATH", "ERROR"),
)
_SORTS: Final = ("", "DUR", "TTFT", "QUEUE", "IN", "OUT", "ST")
_TAIL_ROWS: Final = 60
_TRY: Final = "  curl --cacert ca.crt --cert client.crt --key client.key https://HOST:8443/v1/models"
# So many older ones than those that came by themselves are kept at most.
OLDER_MAX: Final = 10_000


class Requests(FilteredScreen):
    """ask: a question to the admin API. wall: UTC seconds since 1970, from which `since:15m` is counted."""

    class OpenKey(Message):
        """An API key is to be shown on its screen."""

        def __init__(self, key_id: str) -> None:
            super().__init__()
            self.key_id = key_id

    class Found(Message):
        """Older requests, newest first, or why there are none. search: what they are of."""

        def __init__(self, search: Older, records: Sequence[RequestRecord], trouble: str | None) -> None:
            super().__init__()
            self.search = search
            self.records = records
            self.trouble = trouble

    BINDINGS: ClassVar[list[BindingType]] = [
        *filter_keys("requests"),
        Binding("o", "older", "older requests, from the log", show=False, id="requests.older"),
        Binding("f", "follow", "follow the newest, or stay", show=False, id="requests.follow"),
        Binding("s", "sort", "sort by the next column", show=False, id="requests.sort"),
        Binding("S", "reverse", "sort the other way round", show=False, id="requests.reverse"),
        Binding("w", "columns", "other columns", show=False, id="requests.columns"),
        Binding("n", "next_error(1)", "the next failure", show=False, id="requests.next_error"),
        Binding("N", "next_error(-1)", "the failure before", show=False, id="requests.previous_error"),
        Binding("y", "copy", "copy the id", show=False, id="requests.copy"),
        Binding("J", "json", "show it as JSON", show=False, id="requests.json"),
        Binding("i", "open_key", "the key that asked, on its screen", show=False, id="requests.open_key"),
        Binding("K", "same_key", "what the same key asked", show=False, id="requests.same_key"),
    ]
    hints: ClassVar[tuple[KeyHint, ...]] = (
        KeyHint("?", "Help"),
        KeyHint("/", "Filter"),
        KeyHint("f", "Follow"),
        KeyHint("s", "Sort"),
        KeyHint("w", "Cols"),
        KeyHint("n", "NextErr"),
        KeyHint("y", "Copy"),
        KeyHint("o", "Older", wide=True),
        KeyHint("S", "Reverse", wide=True),
        KeyHint("J", "JSON", wide=True),
        KeyHint("K", "Same key", wide=True),
        KeyHint("p", "Pause", wide=True),
        KeyHint("q", "Quit", wide=True),
    )

    def __init__(self, look: Look, board: Board, ask: Ask, *, wall: Callable[[], float]) -> None:
        super().__init__(look, board, id="requests")
        self._ask = ask
        self._wall = wall
        # The search for older requests, and whether it is asking.
        self._older: Older | None = None
        self._searching = False
        self._set = 0
        self._sort = 0
        self._reverse = True
        self._filter = RequestFilter()
        # The moment of the recording that is shown.
        self._until: float | None = None
        # Which request the detail is of, and how wide it was drawn.
        self._detailed: tuple[str, int] | None = None
        self._columns = {name: self._column(name, width, most, rank) for name, width, most, rank in _COLUMNS}
        self.rows: VirtualLog[RequestRecord] = VirtualLog(
            tuple(self._columns.values()), look, rows_max=REQUESTS_MAX, older_max=OLDER_MAX, id="requests-log"
        )

    def compose(self) -> ComposeResult:
        """Filter, list, detail."""
        yield from super().compose()
        yield LinesView(self.look, id="requests-detail")

    def take(self, records: Sequence[RequestRecord]) -> None:
        """New requests, oldest of them first."""
        self.rows.extend(records)

    def newest(self) -> tuple[RequestRecord, ...]:
        """The newest of all, whatever is shown here."""
        return tuple(self.rows.ring.newest(_TAIL_ROWS))

    def find(self, request_id: str) -> None:
        """Shows the request of that id, or all that begin with it where it is gone."""
        self.apply("")
        found = self.rows.ring.find(0, 1, lambda record: record.id == request_id)
        if found is None:
            self.apply(f"id:{request_id}")
            self.action_older()
        else:
            self.rows.go(found)

    def paint(self, now: float) -> None:
        """The list draws itself; count and detail follow it."""
        until = None if self.board.replay is None else self.board.replay.shown.time
        if until != self._until:
            before, self._until = self._until, until
            if until is None or (before is not None and until > before):
                # Between what was fetched and what the list has now, something would be missing.
                self._forget_older()
            self._select()
        super().paint(now)
        if self.rows.ring.total:
            self.rows.empty = self.nothing(self.look.say("No request matches the filter; Esc clears it"))
        elif "requests" in self.board.refused:
            self.rows.empty = self.nothing("", self.board.refused["requests"])
        else:
            self.rows.empty = [*self.nothing(self.look.say("No requests yet. Try:")), *self.nothing(_TRY)]
        self._show_detail()

    def reword(self) -> None:
        """The detail is drawn anew."""
        self._detailed = None

    def status(self) -> Line:
        """What is wrong with the filter, or how the list is ordered."""
        if self._wrong is not None:
            return super().status()
        said = [self.look.say("filter is live while typing; Esc clears; f follows the newest again")]
        if self._searching:
            said = [self.look.say("looking for older requests")]
        elif len(self.rows.ring) and self.rows.position == len(self.rows.ring) - 1 and not self.rows.follow:
            said = [self.look.say("the oldest one here; o, or going on, fetches older ones")]
        elif self._sort:
            said = [f"{self.look.say('sorted by')} {_SORTS[self._sort]}; {self.look.say('s changes, Esc ends it')}"]
        return line((f" {said[0]}", "dim"))

    # Keys.

    def clear(self) -> None:
        """Shows all that there is, the newest first."""
        self._forget_older()
        self._sort = 0
        self.rows.sort(None)
        super().clear()

    def action_follow(self) -> None:
        """Follows the newest, or stays."""
        self._forget_older()
        self._sort = 0
        self.rows.sort(None)
        self.rows.set_follow(not self.rows.follow)

    def action_older(self) -> None:
        """Fetches older requests from the log, beside everything else."""
        if self._searching:
            return
        ring = self.rows.ring
        if ring.older >= OLDER_MAX:
            self.say("no more are kept here: a filter, such as until:, reaches further back")
            return
        if self._older is None:
            oldest = next(iter(ring), None)
            until = self._wall() if oldest is None else oldest.time + oldest.total_seconds
            until = until if self._until is None else min(until, self._until)
            self._older = Older(self._ask, self._filter.text, until, ring)
        search = self._older

        async def work() -> None:
            try:
                self.post_message(self.Found(search, await search.page(), None))
            except ApplianceError as error:
                self.post_message(self.Found(search, (), safe_text(str(error), 400)))

        self._searching = True
        self.run_worker(work(), name="older", group="older", exclusive=True)

    def on_requests_found(self, message: Requests.Found) -> None:
        """Puts them behind the oldest one."""
        message.stop()
        if message.search is not self._older:
            # The filter has changed meanwhile.
            return
        self._searching = False
        if message.trouble is not None:
            self.post_message(Said(message.trouble))
        elif not message.records:
            self.say("there are no older ones")
        else:
            self.rows.put_in_front(message.records)
            self._show_beside()

    def on_virtual_log_end_reached(self, message: VirtualLog.EndReached) -> None:
        """Goes on with older ones."""
        message.stop()
        if self.rows.has_focus:
            self.action_older()

    def action_sort(self) -> None:
        """By the next column."""
        self._sort = (self._sort + 1) % len(_SORTS)
        self._reverse = True
        self._order()

    def action_reverse(self) -> None:
        """The other way round."""
        self._reverse = not self._reverse
        self._order()

    def action_columns(self) -> None:
        """Other columns."""
        self._set = (self._set + 1) % len(_SETS)
        self.rows.set_columns(tuple(self._columns[name] for name in _SETS[self._set]))

    def action_next_error(self, step: int) -> None:
        """To the next request that failed."""
        self.go_to_failure(step, failed)

    def action_copy(self) -> None:
        """The id, through the terminal."""
        record = self.rows.selected
        if record is not None:
            self.copy(record.id)

    def action_json(self) -> None:
        """The record as it is stored."""
        record = self.rows.selected
        if record is not None:
            text = msgspec.json.format(msgspec.json.encode(record), indent=2).decode()
            self.post_message(ShowText(record.id, text))

    def action_same_key(self) -> None:
        """What else this key asked."""
        record = self.rows.selected
        if record is not None:
            self.apply(f"key={record.key_id or '-'}")

    def action_open_key(self) -> None:
        """Who asked, among the keys."""
        record = self.rows.selected
        if record is not None and record.key_id is not None:
            self.post_message(self.OpenKey(record.key_id))
        else:
            self.say("this request came without a key")

    def commands(self) -> tuple[tuple[str, str], ...]:
        """What its keys do, by name."""
        return (
            ("Older requests, from the log", "on_screen('older')"),
            ("What the same key asked", "on_screen('same_key')"),
            ("The key that asked, on its screen", "on_screen('open_key')"),
        )

    def on_virtual_log_moved(self, message: VirtualLog.Moved) -> None:
        """The detail is of the row under the cursor."""
        message.stop()
        if self.display and self.is_attached:
            self._show_detail()

    # What follows from them.

    def narrow(self, text: str) -> None:
        """By the language of the request log."""
        self._filter = parse(text)
        # What was fetched is what another filter takes.
        self._forget_older()
        self._select()

    def beside(self) -> Line:
        """How many there are."""
        ring = self.rows.ring
        more = self.look.say("ring full")
        if ring.older:
            more = f"{units.thousands(ring.older)} {self.look.say('older')}"
        total = units.thousands(ring.total) + (f" ({more})" if ring.full or ring.older else "")
        return line(f"{units.thousands(len(ring))} {self.look.say('of')} {total} " if ring.filtered else f"{total} ")

    def _forget_older(self) -> None:
        """Back to what came by itself."""
        self._older, self._searching = None, False
        self.rows.forget_older()

    def _select(self) -> None:
        """What the filter takes; of a recording, what had ended by then."""
        chosen, until = self._filter, self._until
        if not chosen.terms and until is None:
            self.rows.select(None)
            return
        latest, now = float("inf") if until is None else until, self._wall if until is None else lambda: latest
        self.rows.select(lambda record: record.time + record.total_seconds <= latest and chosen.matches(record, now()))

    def _order(self) -> None:
        name = _SORTS[self._sort]
        self.rows.sort(self._columns[name] if name else None, reverse=self._reverse)

    def _show_detail(self) -> None:
        view = self.query_one("#requests-detail", LinesView)
        record = self.rows.selected
        width = view.size.width
        shown = None if record is None else (record.id, width)
        if shown != self._detailed:
            self._detailed = shown
            view.show([] if record is None else request_detail(record, self.rows.ring, width, self.look)[:LINES])

    def _column(self, name: str, width: int, most: int, rank: int) -> Column[RequestRecord]:
        look = self.look
        return Column(
            name,
            width,
            lambda record: cell(record, name, look),
            align="right" if name in RIGHT else "left",
            width_max=most,
            rank=rank,
            role=lambda record: role_of(record, name),
            sort=_SORT_KEYS.get(name),
        )


_SORT_KEYS: Final[dict[str, Callable[[RequestRecord], float | str]]] = {
    "DUR": lambda record: record.total_seconds,
    "TTFT": lambda record: record.ttft_seconds or 0.0,
    "QUEUE": lambda record: record.queue_seconds or 0.0,
    "IN": lambda record: record.prompt_tokens,
    "OUT": lambda record: record.completion_tokens,
    "ST": lambda record: record.status,
}
