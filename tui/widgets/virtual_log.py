"""A list of any length of which the visible lines are drawn, and nothing else.

Rows are newest first, or sorted. The cursor stays on its row, whatever comes, goes or is sorted; while the list
follows, it stays on the newest. Columns that the width has no room for drop in a fixed order. A row is one line, unless
the list wraps: then the last column's text goes on below itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice
from typing import ClassVar, Final, Generic

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.lines import Line, Role, ascii_only, fit, fitted, line, shorten, width_of, wrapped
from tui.look import Look
from tui.theme import ThemeName, faded, styles_of
from tui.widgets.columns import Column, Placed, Row, place
from tui.widgets.ring import Ring

_STRIPS_MAX: Final = 2000
_WHEEL_LINES: Final = 3
# A row that wraps: how many lines it takes at most, and from how many cells on it is worth while.
_WRAPPED_LINES_MAX: Final = 12
_WRAPPED_CELLS_MIN: Final = 10


class VirtualLog(Widget, Generic[Row], can_focus=True):
    """Shows a Ring. older_max: how many older rows it takes beside `rows_max`.

    identity: what makes a row the same one after `replace`. free: of rows that are no cells but text. empty: lines to
    show where there is no row.
    """

    DEFAULT_CSS = "VirtualLog { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "down", show=False, id="list.down"),
        Binding("up,k", "move(-1)", "up", show=False, id="list.up"),
        Binding("pagedown,ctrl+f", "page(1)", "a screen down", show=False, id="list.page_down"),
        Binding("pageup", "page(-1)", "a screen up", show=False, id="list.page_up"),
        Binding("home,g", "top", "the first", show=False, id="list.top"),
        Binding("end,G", "bottom", "the last", show=False, id="list.bottom"),
        Binding("enter", "open", "open it", show=False, id="list.open"),
    ]

    class Moved(Message):
        """The cursor is on another row, or the row is another one."""

    class EndReached(Message):
        """A key went on behind the last row."""

    class Opened(Message):
        """Enter was pressed on the row under the cursor."""

    def __init__(
        self,
        columns: Sequence[Column[Row]],
        look: Look,
        *,
        rows_max: int = 10_000,
        older_max: int = 0,
        gap: int = 1,
        identity: Callable[[Row], Hashable] | None = None,
        free: Callable[[Row], Line | None] | None = None,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id, markup=False)
        self.ring: Ring[Row] = Ring(rows_max, older_max)
        self.follow = True
        self._empty: tuple[Line, ...] = ()
        self._columns = tuple(columns)
        self._placed: tuple[Placed[Row], ...] = ()
        self._look = look
        self._gap = gap
        self._identity = identity
        self._free = free
        # The number of the row under the cursor; None while there is no row.
        self._cursor: int | None = None
        self._top = 0
        # Whether a row may take several lines.
        self._wraps = False
        # The lines of a row by its number, and whether it is under the cursor.
        self._strips: dict[tuple[int, bool], tuple[Strip, ...]] = {}
        self._role_styles: dict[Role, Style] = {}
        self._base_style = Style()

    # What it shows.

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return None if self._cursor is None else self.ring.row(self._cursor)

    @property
    def empty(self) -> Sequence[Line]:
        """What is shown where there is no row."""
        return self._empty

    @empty.setter
    def empty(self, lines: Sequence[Line]) -> None:
        if tuple(lines) != self._empty:
            self._empty = tuple(lines)
            if not len(self.ring):
                self.refresh()

    @property
    def position(self) -> int:
        """Where the cursor is, from the top; 0 where there is no row."""
        return 0 if self._cursor is None else self.ring.position_of(self._cursor) or 0

    def table(self) -> tuple[list[str], list[list[str]], list[Row]]:
        """The titles of all columns, the cells of every row in view from the top, and those rows."""
        rows = [self.ring.row(self.ring.number_at(place)) for place in range(len(self.ring))]
        titles = [column.title for column in self._columns]
        return titles, [[column.cell(row) for column in self._columns] for row in rows], rows

    def extend(self, rows: Sequence[Row]) -> None:
        """Adds newer rows, oldest of them first."""
        if not rows:
            return
        top_row = None if self.follow or not len(self.ring) else self.ring.number_at(min(self._top, len(self.ring) - 1))
        count = self.ring.extend(rows)
        if count or self.ring.full:
            self._settle(top_row)

    def put_in_front(self, rows: Sequence[Row]) -> int:
        """Adds older rows, newest of them first; how many there was room for. The cursor stays where it is."""
        top_row = self.ring.number_at(min(self._top, len(self.ring) - 1)) if len(self.ring) else None
        taken = self.ring.put_in_front(rows)
        self.follow = False
        self._settle(top_row)
        return taken

    def forget_older(self) -> None:
        """Drops what was put in front."""
        top_row = self.ring.number_at(min(self._top, len(self.ring) - 1)) if len(self.ring) else None
        self.ring.forget_older()
        self._strips.clear()
        self._settle(top_row)

    def replace(self, rows: Sequence[Row]) -> None:
        """Shows these rows, in this order, with the cursor where it was."""
        selected = self.selected
        kept = None if selected is None or self._identity is None else self._identity(selected)
        position, top = self.position, self._top
        self.ring.clear()
        self.ring.extend(rows[::-1])
        self._strips.clear()
        found = None if kept is None or self._identity is None else self._where(kept, self._identity)
        self.follow = False
        self._cursor = None
        self._top = max(0, min(top, len(self.ring) - 1))
        if len(self.ring):
            self._go(found if found is not None else min(position, len(self.ring) - 1))
        self.refresh()
        self.post_message(self.Moved())

    def select(self, matches: Callable[[Row], bool] | None) -> None:
        """Shows the rows that match."""
        self.ring.select(matches)
        self._strips.clear()
        self._settle(None)

    def sort(self, column: Column[Row] | None, *, reverse: bool = False) -> None:
        """Sorts by a column; newest first without one."""
        self.follow = column is None and self.follow
        self.ring.sort(None if column is None else column.sort, reverse=reverse)
        self._settle(None)
        self._show_cursor()

    def set_columns(self, columns: Sequence[Column[Row]]) -> None:
        """Shows other columns."""
        self._columns = tuple(columns)
        self._measure()

    @property
    def wraps(self) -> bool:
        """Whether long rows go on below."""
        return self._wraps

    def set_wrap(self, wraps: bool) -> None:
        """Whether long rows go on below."""
        self._wraps = wraps
        self.redraw()
        if len(self.ring):
            self._show_cursor()

    def set_follow(self, follow: bool) -> None:
        """Whether the cursor stays on the newest row."""
        self.follow = follow and not self.ring.ordered
        self._settle(None)

    def go(self, position: int) -> None:
        """Puts the cursor there, or as near as there is a row."""
        if len(self.ring):
            self.follow = False
            self._go(max(0, min(len(self.ring) - 1, position)))

    def width_of(self, title: str) -> int:
        """How wide a column is shown; 0 where it is not."""
        return next((one.width for one in self._placed if one.column.title == title), 0)

    def redraw(self) -> None:
        """Rows show something else than they did."""
        self._strips.clear()
        self.refresh()

    def restyle(self, theme: ThemeName, *, old: bool = False) -> None:
        """Draws in another theme. old: as figures of before."""
        styles = styles_of(theme)
        self._role_styles = dict(faded(styles) if old else styles)
        self._strips.clear()
        self.refresh()

    # Keys and mouse.

    def action_move(self, lines: int) -> None:
        """Moves the cursor by so many rows."""
        self._move(lines)

    def action_page(self, pages: int) -> None:
        """Moves the cursor by so many screens."""
        shown = len({position for position, _ in self._layout()}) if self._wraps else self._lines
        self._move(pages * max(1, shown - 1))

    def action_top(self) -> None:
        """The first row; the newest one is followed from there."""
        self.go(0)

    def action_bottom(self) -> None:
        """The last row."""
        self._move(len(self.ring))

    def _move(self, rows: int) -> None:
        """By so many rows; where there is none left below, it says so."""
        if rows > 0 and self.position >= len(self.ring) - 1:
            self.post_message(self.EndReached())
        self.go(self.position + rows)

    def action_open(self) -> None:
        """Opens the row under the cursor."""
        if self._cursor is not None:
            self.post_message(self.Opened())

    def on_click(self, event: Click) -> None:
        """Puts the cursor on the row."""
        place = self._at(event.y - 1) if event.y > 0 else None
        if place is not None:
            self.go(place[0])

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Moves on."""
        event.stop()
        self.action_move(_WHEEL_LINES)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Moves back."""
        event.stop()
        self.action_move(-_WHEEL_LINES)

    def on_resize(self, event: Resize) -> None:
        """Other columns may have room now."""
        self._measure()
        self._show_cursor()

    # Drawing.

    def render_line(self, y: int) -> Strip:
        """The head, then one row a line."""
        width = self.size.width
        base = self.rich_style
        if base != self._base_style:
            self._base_style = base
            self._strips.clear()
        if y == 0:
            return self._strip(self._head(), width)
        if not len(self.ring):
            return self._strip(fitted(self._empty[y - 1], width) if y <= len(self._empty) else (), width)
        place = self._at(y - 1)
        return Strip.blank(width, base) if place is None else self._row_strips(place[0])[place[1]]

    def _row_strips(self, position: int) -> tuple[Strip, ...]:
        """The lines of the row there."""
        number = self.ring.number_at(position)
        key = (number, number == self._cursor)
        strips = self._strips.get(key)
        if strips is None:
            if len(self._strips) >= _STRIPS_MAX:
                self._strips.clear()
            lines = self._cells(self.ring.row(number), selected=key[1])
            strips = self._strips[key] = tuple(self._strip(one, self.size.width) for one in lines)
        return strips

    def _at(self, y: int) -> tuple[int, int] | None:
        """Which row, by its position, is on a line under the head, and which of its lines it is."""
        if self._wraps:
            return next(islice(self._layout(), y, None), None)
        position = self._top + y
        return (position, 0) if position < len(self.ring) else None

    def _layout(self) -> Iterator[tuple[int, int]]:
        """Rows and their lines, from the top of the window to its end."""
        left = self._lines
        for position in range(self._top, len(self.ring)):
            for part in range(min(left, len(self._row_strips(position)))):
                yield position, part
            left -= len(self._row_strips(position))
            if left <= 0:
                return

    def _strip(self, drawn: Line, width: int) -> Strip:
        segments = []
        for text, role in fitted(drawn, width):
            style = self._role_styles.get(role)
            segments.append(
                Segment(
                    ascii_only(text) if self._look.glyphs.ascii else text,
                    self._base_style if style is None else self._base_style + style,
                )
            )
        return Strip(segments, width)

    def _head(self) -> Line:
        titles = (fit(self._look.say(one.column.title), one.width, one.column.align) for one in self._placed)
        return line((" " + (" " * self._gap).join(titles), "head"))

    def _cells(self, row: Row, *, selected: bool) -> Sequence[Line]:
        """The lines of a row: one, or where the list wraps as many as its last column takes."""
        mark = ">" if selected else " "
        free = None if self._free is None else self._free(row)
        if free is not None:
            return [tuple((text, "cursor") for text, _ in line(mark, free)) if selected else line(mark, free)]
        spans: list[tuple[str, Role]] = [(mark, "cursor" if selected else "")]
        cut, gap = self._look.glyphs.cut, " " * self._gap
        more: list[str] = []
        for one in self._placed:
            column, text = one.column, one.column.cell(row)
            if self._wraps and one is self._placed[-1] and one.width >= _WRAPPED_CELLS_MIN:
                text, *more = wrapped(text, one.width)
            text = fit(shorten(text, one.width, cut), one.width, column.align) + gap
            spans.append((text, "cursor" if selected else "" if column.role is None else column.role(row)))
        first: Line = tuple(spans)
        if not more:
            return [first]
        indent = " " * (width_of(first) - width_of(first[-1:]))
        return [first, *(line(indent, (text, spans[-1][1])) for text in more[: _WRAPPED_LINES_MAX - 1])]

    # Where the cursor is.

    @property
    def _lines(self) -> int:
        return max(1, self.size.height - 1)

    def _measure(self) -> None:
        self._placed = place(self._columns, self.size.width - 1, self._gap)
        self._strips.clear()
        self.refresh()

    def _where(self, kept: Hashable, identity: Callable[[Row], Hashable]) -> int | None:
        return self.ring.find(0, 1, lambda row: identity(row) == kept)

    def _settle(self, top_row: int | None) -> None:
        """Puts cursor and window right after the rows have changed. top_row: the one that stays at the top."""
        if not len(self.ring):
            self._cursor, self._top = None, 0
        elif self.follow:
            self._cursor, self._top = self.ring.number_at(0), 0
        else:
            if top_row is not None and not self.ring.ordered:
                position = self.ring.position_of(top_row)
                self._top = position if position is not None else max(0, len(self.ring) - self._lines)
            self._top = max(0, min(self._top, len(self.ring) - 1))
            if self._cursor is None or self.ring.position_of(self._cursor) is None:
                # Its row is gone: the nearest that is still in sight.
                self._cursor = self.ring.number_at(min(self._top, len(self.ring) - 1))
        self.refresh()
        self.post_message(self.Moved())

    def _go(self, position: int) -> None:
        before = self._cursor
        self._cursor = self.ring.number_at(position)
        old_top = self._top
        self._show_cursor(position)
        if self._top != old_top or before is None or self._wraps:
            self.refresh()
        else:
            old = self.ring.position_of(before)
            for moved in (old, position):
                if moved is not None and 0 <= moved - self._top < self._lines:
                    self.refresh_row(moved - self._top)
        if self._cursor != before:
            self.post_message(self.Moved())

    def refresh_row(self, row: int) -> None:
        """Draws one line anew; 0 is the first under the head."""
        self.refresh(Region(0, row + 1, self.size.width, 1))

    def _show_cursor(self, position: int | None = None) -> None:
        at = self.position if position is None else position
        first = at - self._lines + 1
        if self._wraps:
            # As many rows above it as there is room for.
            first, room = at, self._lines - len(self._row_strips(at))
            while first > 0 and (room := room - len(self._row_strips(first - 1))) >= 0:
                first -= 1
        self._top = max(min(self._top, at), first, 0)
