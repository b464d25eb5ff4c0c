"""Commands by name: some letters of it, and Enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.screen import ModalScreen

from appliance.safe_text import safe_text
from tui.drawing.box import box
from tui.lines import line, stretched
from tui.look import Look
from tui.theme import ThemeName
from tui.widgets.lines_view import LinesView

# Fixed words, and the action of the app.
COMMANDS: Final = (
    ("Go to Overview", "show(0)"),
    ("Go to Models", "show(1)"),
    ("Go to Requests", "show(2)"),
    ("Go to Keys and certificates", "show(3)"),
    ("Go to Allowlist", "show(4)"),
    ("Go to Audit", "show(5)"),
    ("Go to Logs", "show(6)"),
    ("Requests: errors of the last hour", "find('st>=400 since:1h')"),
    ("Requests: slower than 30 s", "find('dur>30')"),
    ("Requests: first text after more than 2 s", "find('ttft>2')"),
    ("Alerts", "alerts"),
    ("Approvals", "approvals"),
    ("Pause, or go on", "pause"),
    ("Draw more often", "rate(1)"),
    ("Draw less often", "rate(-1)"),
    ("Replay from a time", "replay"),
    ("Back to what is now", "retry"),
    ("Export this list as CSV", "export('csv')"),
    ("Export this list as JSON lines", "export('jsonl')"),
    ("Next theme", "theme"),
    ("Help", "help"),
    ("Quit", "quit"),
)

_TYPED_MAX: Final = 60


class Palette(ModalScreen[str | None]):
    """Gives back the action that was chosen."""

    CSS = """
    Palette { align: center middle; background: $background 0%; }
    Palette LinesView { width: 64; height: 16; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close", show=False, id="palette.close"),
        Binding("down", "move(1)", "down", show=False, id="palette.down"),
        Binding("up", "move(-1)", "up", show=False, id="palette.up"),
        Binding("enter", "choose", "do it", show=False, id="palette.choose"),
        Binding("backspace", "erase", "erase a letter", show=False, id="palette.erase"),
    ]

    def __init__(self, commands: Sequence[tuple[str, str]], look: Look, theme: ThemeName) -> None:
        super().__init__()
        self._commands = [(look.say(said), action) for said, action in commands]
        self._look = look
        self._style = theme
        self._chosen = 0
        self._typed = ""

    def compose(self) -> ComposeResult:
        """What is typed, and what it finds."""
        yield LinesView(self._look, id="palette-found", can_focus=True)

    def on_mount(self) -> None:
        """Shows all of them."""
        self.query_one(LinesView).restyle(self._style)
        self.query_one(LinesView).focus()
        self.call_after_refresh(self._paint)

    def action_move(self, lines: int) -> None:
        """Down or up."""
        self._chosen = max(0, min(len(self._found()) - 1, self._chosen + lines))
        self._paint()

    def action_choose(self) -> None:
        """Does it."""
        found = self._found()
        self.dismiss(found[self._chosen][1] if found else None)

    def action_erase(self) -> None:
        """The last letter is gone."""
        self._type(self._typed[:-1])

    def on_key(self, event: Key) -> None:
        """Finds while it is typed."""
        if event.is_printable and event.character is not None:
            event.stop()
            self._type(self._typed + event.character)

    def _type(self, text: str) -> None:
        self._typed, self._chosen = safe_text(text, _TYPED_MAX), 0
        self._paint()

    def _found(self) -> list[tuple[str, str]]:
        words = self._typed.lower().split()
        return [one for one in self._commands if all(word in one[0].lower() for word in words)]

    def _paint(self) -> None:
        view = self.query_one(LinesView)
        width, height = view.size
        if width < 10 or height < 3:
            return
        rows = height - 4
        found = self._found()
        first = max(0, self._chosen - rows + 1)
        listed = [
            line(" ", ("> " + said, "cursor") if number == self._chosen else "  " + said)
            for number, (said, _) in enumerate(found[first : first + rows], first)
        ]
        if not found:
            listed = [line((f"  {self._look.say('no such command')}", "dim"))]
        body = stretched([line(f" {self._typed}_"), (), *listed], height - 2)
        view.show(box(line(self._look.say("Commands")), body, width, self._look.glyphs))
