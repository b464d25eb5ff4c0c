"""What every screen of the dashboard has in common."""

from __future__ import annotations

from typing import ClassVar

from textual.containers import Vertical

from tui.board import Board
from tui.drawing.frame import KeyHint
from tui.lines import Line, line, wrapped
from tui.look import Look
from tui.messages import Propose, Said
from tui.proposals.proposal import Proposal
from tui.theme import ThemeName
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog


class DashboardScreen(Vertical):
    """One of the seven, inside the frame. It is told to paint once a tick while it is in sight."""

    DEFAULT_CSS = "DashboardScreen { height: 1fr; }"
    hints: ClassVar[tuple[KeyHint, ...]] = ()

    def __init__(self, look: Look, board: Board, *, id: str) -> None:
        super().__init__(id=id)
        self.look = look
        self.board = board

    def paint(self, now: float) -> None:
        """Shows what the board knows. now: the dashboard's clock."""
        raise NotImplementedError

    def status(self) -> Line:
        """What the status line says."""
        return ()

    def commands(self) -> tuple[tuple[str, str], ...]:
        """What can be done here by name: fixed words, and the action."""
        return ()

    def reword(self) -> None:
        """The language or the glyphs are others: what it keeps as it was drawn is of no use any more."""

    def enter(self) -> None:
        """It comes into sight: takes the focus, at once, so that keys that are typed ahead come here."""
        raise NotImplementedError

    def propose(self, proposal: Proposal) -> None:
        """Wants to do something; the dashboard asks first."""
        self.post_message(Propose(proposal))

    def say(self, text: str) -> None:
        """Says something in the status line, in the operator's language."""
        self.post_message(Said(self.look.say(text)))

    def copy(self, text: str) -> None:
        """To the clipboard, through the terminal."""
        self.app.copy_to_clipboard(text)
        self.post_message(Said(f"{text} {self.look.say('sent to the clipboard')}"))

    def restyle(self, theme: ThemeName, *, old: bool = False) -> None:
        """Draws in another theme. old: what it shows is of before."""
        for view in self.query(LinesView):
            view.restyle(theme, old=old)
        for log in self.query(VirtualLog):
            log.restyle(theme, old=old)

    def nothing(self, said: str, refused: str | None = None) -> list[Line]:
        """Instead of rows. refused: why this role is not shown them."""
        if refused is None:
            return [line((f"  {said}", "dim"))]
        width = max(20, self.size.width - 6)
        told = [self.look.say("Your role is not shown these:"), *(f"  {one}" for one in wrapped(refused, width))]
        return [line((f"  {one}", "dim")) for one in told]

    def stale(self, now: float) -> str:
        """How old the figures are, where they are not of now."""
        state = self.board.state(now)
        if state not in ("STALE", "NO DATA"):
            return ""
        age = self.board.age(now)
        return self.look.say("STALE") + ("" if age is None else f" {age:.0f}s")
