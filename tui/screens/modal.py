"""What every box that asks for something has in common: a frame, lines, and buttons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Click
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget

from tui.lines import Line, Role, line, wrapped
from tui.look import Look
from tui.theme import ThemeName
from tui.widgets.lines_view import LinesView

Result = TypeVar("Result")
WIDTH = 68
_TEXT = WIDTH - 4


class Button(LinesView):
    """One line that can be chosen. locked: it is there, and does nothing yet."""

    DEFAULT_CSS = "Button { height: 1; width: auto; min-width: 10; margin: 0 2; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "press", "choose", show=False, id="button.press")]

    class Chosen(Message):
        """It was pressed."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.button = name

    def __init__(self, look: Look, word: str, *, id: str) -> None:
        super().__init__(look, id=id, can_focus=True)
        self._word = word
        self.locked = False

    def on_mount(self) -> None:
        """As wide as its word."""
        self.styles.width = cell_len(self._word) + 4
        self._draw()

    def on_focus(self) -> None:
        """The reversed one is the one that Enter takes."""
        self._draw()

    def on_blur(self) -> None:
        """Another one has it."""
        self._draw()

    def hold_back(self, locked: bool) -> None:
        """Whether it does nothing."""
        self.locked = locked
        self._draw()

    def action_press(self) -> None:
        """Enter."""
        if not self.locked:
            self.post_message(self.Chosen(self.id or ""))

    def on_click(self, event: Click) -> None:
        """The mouse only gives the focus: a click meant for what was here before does nothing."""
        event.stop()
        self.focus()

    def _draw(self) -> None:
        role: Role = "cursor" if self.has_focus else "dim" if self.locked else ""
        ends = "()" if self.locked else "[]"
        self.show([line((f"{ends[0]} {self._word} {ends[1]}", role))])


class Modal(ModalScreen[Result | None], Generic[Result]):
    """Esc gives None. What it shows is in a column of `WIDTH` cells."""

    DEFAULT_CSS = f"""
    Modal {{ align: center middle; }}
    Modal > Vertical {{
        width: {WIDTH}; height: auto; max-height: 100%; padding: 0 1; background: $background; border: round $primary;
    }}
    Modal > Vertical.ascii {{ border: ascii $primary; }}
    Modal LinesView {{ background: $background; }}
    Modal .buttons {{ height: 1; align: center middle; }}
    Modal .row {{ height: 1; }}
    Modal .end {{ width: 1; }}
    """
    # What has the focus is said by each of them: Cancel, or nothing.
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", show=False, id="modal.cancel"),
        Binding("down", "app.focus_next", "next", show=False, id="modal.next"),
        Binding("up", "app.focus_previous", "before", show=False, id="modal.previous"),
    ]

    def __init__(self, title: str, look: Look, theme: ThemeName) -> None:
        super().__init__()
        self.look = look
        self._title = title
        self._theme_name: ThemeName = theme

    def compose(self) -> ComposeResult:
        """The frame around what it asks."""
        box = Vertical(*self.parts(), classes="ascii" if self.look.glyphs.ascii else "")
        box.border_title = self._title.replace("[", "(")
        box.border_subtitle = self.beneath()
        yield box

    def beneath(self) -> str:
        """What the lower edge of the frame says."""
        return ""

    def parts(self) -> Sequence[Widget]:
        """What is in the frame, from top to bottom."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """In the theme of the dashboard."""
        for view in self.query(LinesView):
            view.restyle(self._theme_name)

    def action_cancel(self) -> None:
        """Nothing is done."""
        self.dismiss(None)

    def text(self, lines: Sequence[Line], id: str | None = None) -> LinesView:
        """A block of text, as high as it is long."""
        view = LinesView(self.look, id=id)
        view.styles.height = max(1, len(lines))
        view.show(lines)
        return view


def folded(text: str, role: Role = "") -> list[Line]:
    """A sentence in as many lines as it takes."""
    lines: list[Line] = []
    for one in text.splitlines() or [""]:
        indent = "  " if one.startswith("  ") else ""
        lines += [line((part, role)) for part in wrapped(one, _TEXT, indent)]
    return lines
