"""A text over the screen: help, alerts, one record in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.lines import Line, line
from tui.look import Look
from tui.screens.block import Block
from tui.theme import ThemeName


class Overlay(Block[None]):
    """Closed by Esc, Enter or q; what is longer than the screen is moved through."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss", "close", show=False, id="overlay.close"),
        Binding("down,j", "move(1)", "down", show=False, id="list.down"),
        Binding("up,k", "move(-1)", "up", show=False, id="list.up"),
        Binding("pagedown,ctrl+f,space", "move(10)", "a screen down", show=False, id="list.page_down"),
        Binding("pageup", "move(-10)", "a screen up", show=False, id="list.page_up"),
    ]

    def __init__(self, title: str, lines: Sequence[Line], look: Look, theme: ThemeName) -> None:
        super().__init__(title, look, theme)
        self._text = tuple(lines)
        self._first = 0

    def action_move(self, lines: int) -> None:
        """Down or up."""
        self._first = max(0, min(len(self._text) - self.rows, self._first + lines))
        self.paint()

    def lines(self, rows: int) -> Sequence[Line]:
        """From the first that is shown on."""
        return [line(" ", one) for one in self._text[self._first : self._first + rows]]
