"""What every screen with a list and a line to filter it has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input

from appliance.errors import ApplianceError
from tui.board import Board
from tui.lines import Line, line
from tui.look import Look
from tui.screens.screen import DashboardScreen
from tui.widgets.filter_input import FilterInput
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog


def filter_keys(screen: str) -> tuple[BindingType, ...]:
    """The keys of the filter. screen: how a keymap calls them."""
    return (
        Binding("slash", "filter", "filter", show=False, id=f"{screen}.filter"),
        Binding("escape", "clear", "leave the filter, or clear it", show=False, id=f"{screen}.clear"),
    )


class FilteredScreen(DashboardScreen):
    """The list follows the typing; while a filter cannot be read, it stays as it was."""

    rows: VirtualLog[Any]

    def __init__(self, look: Look, board: Board, *, id: str) -> None:
        super().__init__(look, board, id=id)
        self._wrong: str | None = None

    def narrow(self, text: str) -> None:
        """Shows what this filter takes. Raises ApplianceError where it cannot be read."""
        raise NotImplementedError

    def beside(self) -> Line:
        """What is said at the end of the filter's line."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """Filter and list."""
        slash = LinesView(self.look, classes="filter-slash")
        slash.show([line(" / ")])
        with Horizontal(classes="filter"):
            yield slash
            yield FilterInput(id=f"{self.id}-input")
            yield LinesView(self.look, id=f"{self.id}-beside")
        yield self.rows

    def enter(self) -> None:
        """Keys come to the list."""
        self.screen.set_focus(self.rows)

    def paint(self, now: float) -> None:
        """The list draws itself."""
        self._show_beside()

    def status(self) -> Line:
        """What is wrong with the filter."""
        return () if self._wrong is None else line((f" {self._wrong}", "bad"))

    def clear(self) -> None:
        """Shows all that there is."""
        self.apply("")

    def apply(self, text: str) -> None:
        """Filters by this, as if it were typed."""
        field = self.query_one(FilterInput)
        with field.prevent(Input.Changed):
            field.value = text
        self._read(text)

    def go_to_failure(self, step: int, failed: Callable[[Any], bool]) -> None:
        """To the next row that has failed; step: 1 is downwards, where older ones are, and -1 upwards."""
        found = self.rows.ring.find(self.rows.position + step, step, failed)
        if found is None:
            self.say("no further failure here")
        else:
            self.rows.go(found)

    def action_filter(self) -> None:
        """To the filter."""
        self.screen.set_focus(self.query_one(FilterInput))

    def action_clear(self) -> None:
        """From the filter to the list; from the list, without a filter."""
        if self.query_one(FilterInput).has_focus:
            self.screen.set_focus(self.rows)
        else:
            self.clear()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filters while it is typed."""
        message.stop()
        self._read(message.value)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Back to the list."""
        message.stop()
        self.screen.set_focus(self.rows)

    def _read(self, text: str) -> None:
        try:
            self.narrow(text)
        except ApplianceError as error:
            self._wrong = str(error)
        else:
            self._wrong = None
            self._show_beside()

    def _show_beside(self) -> None:
        self.query_one(f"#{self.id}-beside", LinesView).show([self.beside()])
