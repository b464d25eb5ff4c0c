"""A text over the screen: help, alerts, one record in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import ModalScreen

from tui.drawing.box import box
from tui.lines import Line, line, stretched
from tui.look import Look
from tui.theme import ThemeName
from tui.widgets.lines_view import LinesView


class Overlay(ModalScreen[None]):
    """Closed by Esc, Enter or q; what is longer than the screen is moved through."""

    CSS = """
    Overlay { align: center middle; background: $background 0%; }
    Overlay LinesView { width: 90%; height: 80%; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss", "close", show=False, id="overlay.close"),
        Binding("down,j", "move(1)", "down", show=False, id="list.down"),
        Binding("up,k", "move(-1)", "up", show=False, id="list.up"),
        Binding("pagedown,ctrl+f,space", "move(10)", "a screen down", show=False, id="list.page_down"),
        Binding("pageup", "move(-10)", "a screen up", show=False, id="list.page_up"),
    ]

    def __init__(self, title: str, lines: Sequence[Line], look: Look, theme: ThemeName) -> None:
        super().__init__()
        self._title = title
        self._lines = list(lines)
        self._look = look
        self._style = theme
        self._first = 0

    def compose(self) -> ComposeResult:
        """One block of lines."""
        yield LinesView(self._look, id="overlay-body", can_focus=True)

    def on_mount(self) -> None:
        """Shows it."""
        view = self.query_one(LinesView)
        view.restyle(self._style)
        view.focus()
        self.call_after_refresh(self._paint)

    def on_resize(self, event: Resize) -> None:
        """For the new size."""
        self.call_after_refresh(self._paint)

    def action_move(self, lines: int) -> None:
        """Down or up."""
        room = self.query_one(LinesView).size.height - 2
        self._first = max(0, min(len(self._lines) - room, self._first + lines))
        self._paint()

    def _paint(self) -> None:
        view = self.query_one(LinesView)
        width, height = view.size
        if width < 10 or height < 3:
            return
        body = [line(" ", one) for one in self._lines[self._first : self._first + height - 2]]
        closes = line((f"Esc {self._look.say('closes')} ", "dim"))
        view.show(box(line(self._title), stretched(body, height - 2), width, self._look.glyphs, right=closes))
