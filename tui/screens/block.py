"""What every box that only shows lines has in common: a frame over the screen, and lines for as much room as it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.events import Resize
from textual.screen import ModalScreen

from tui.drawing.box import box
from tui.lines import Line, line, stretched
from tui.look import Look
from tui.theme import ThemeName
from tui.widgets.lines_view import LinesView

Result = TypeVar("Result")
_WIDTH_MIN = 10
_HEIGHT_MIN = 4


class Block(ModalScreen[Result | None], Generic[Result]):
    """title: in the upper edge. closes: whether that edge says that Esc closes it."""

    DEFAULT_CSS = """
    Block { align: center middle; }
    Block LinesView { width: 90%; height: 80%; background: $background; }
    """
    closes: ClassVar[bool] = True

    def __init__(self, title: str, look: Look, theme: ThemeName) -> None:
        super().__init__()
        self.look = look
        self._title = title
        self._theme_name: ThemeName = theme

    def compose(self) -> ComposeResult:
        """One block of lines."""
        yield LinesView(self.look, can_focus=True)

    def on_mount(self) -> None:
        """Shows it, in the theme of the dashboard."""
        view = self.query_one(LinesView)
        view.restyle(self._theme_name)
        view.focus()
        self.call_after_refresh(self.paint)

    def on_resize(self, event: Resize) -> None:
        """For the new size."""
        self.call_after_refresh(self.paint)

    @property
    def rows(self) -> int:
        """How many lines it has room for."""
        return self.query_one(LinesView).size.height - 2

    def lines(self, rows: int) -> Sequence[Line]:
        """What is in the frame: so many lines, or fewer."""
        raise NotImplementedError

    def paint(self) -> None:
        """Shows what has changed."""
        view = self.query_one(LinesView)
        width, height = view.size
        if width < _WIDTH_MIN or height < _HEIGHT_MIN:
            return
        body = stretched(self.lines(self.rows), self.rows)
        right = line((f"Esc {self.look.say('closes')} ", "dim")) if self.closes else ()
        view.show(box(line(self._title), body, width, self.look.glyphs, right=right))
