"""Commands by name: some letters of it, and Enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.events import Key

from appliance.safe_text import safe_text
from tui.lines import Line, line
from tui.look import Look
from tui.screens.block import Block
from tui.theme import ThemeName

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
    ("Models of the store: verify, remove", "stored"),
    ("Pause, or go on", "pause"),
    ("Draw more often", "rate(1)"),
    ("Draw less often", "rate(-1)"),
    ("Replay from a time", "replay"),
    ("Back to what is now", "retry"),
    ("Export this list as CSV", "export('csv')"),
    ("Export this list as JSON lines", "export('jsonl')"),
    ("Screenshot", "save_screenshot"),
    ("Write a diagnose bundle", "diagnose"),
    ("Next theme", "theme"),
    # Whoever cannot read the language finds the other one.
    ("Language / \u8bed\u8a00", "language"),
    ("ASCII, or lines and blocks", "glyphs"),
    ("Help", "help"),
    ("Quit", "quit"),
)

_TYPED_MAX: Final = 60


class Palette(Block[str]):
    """Gives back the action that was chosen."""

    DEFAULT_CSS = "Palette LinesView { width: 64; height: 16; }"
    closes = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close", show=False, id="palette.close"),
        Binding("down", "move(1)", "down", show=False, id="palette.down"),
        Binding("up", "move(-1)", "up", show=False, id="palette.up"),
        Binding("enter", "choose", "do it", show=False, id="palette.choose"),
        Binding("backspace", "erase", "erase a letter", show=False, id="palette.erase"),
    ]

    def __init__(self, commands: Sequence[tuple[str, str]], look: Look, theme: ThemeName) -> None:
        super().__init__(look.say("Commands"), look, theme)
        # By its English name it is found in every language.
        self._commands = [(look.say(said), action, f"{look.say(said)} {said}".lower()) for said, action in commands]
        self._chosen = 0
        self._typed = ""

    def action_move(self, lines: int) -> None:
        """Down or up."""
        self._chosen = max(0, min(len(self._found()) - 1, self._chosen + lines))
        self.paint()

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
        self.paint()

    def _found(self) -> list[tuple[str, str]]:
        words = self._typed.lower().split()
        return [(said, action) for said, action, names in self._commands if all(word in names for word in words)]

    def lines(self, rows: int) -> Sequence[Line]:
        """What is typed, and what it finds."""
        room = rows - 2
        found = self._found()
        first = max(0, self._chosen - room + 1)
        listed = [
            line(" ", ("> " + said, "cursor") if number == self._chosen else "  " + said)
            for number, (said, _) in enumerate(found[first : first + room], first)
        ]
        if not found:
            listed = [line((f"  {self.look.say('no such command')}", "dim"))]
        return [line(f" {self._typed}_"), (), *listed]
