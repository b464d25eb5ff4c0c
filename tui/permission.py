"""Whether somebody may act on what is shown. Pure. The appliance decides by role; this is about what is seen."""

from __future__ import annotations

from tui.board import Board
from tui.look import Look
from tui.source import Role


def why_not(board: Board, now: float, look: Look) -> str | None:
    """Why nothing can be done now; None where it can."""
    if board.recorded:
        return look.say("this is a recording: nothing can be done here")
    if board.read_only:
        return look.say("read-only: nothing can be done here")
    match board.state(now):
        case "LIVE":
            return None
        case "PAUSED":
            return look.say("what is shown is held: p goes on, and then you may act")
        case "STALE" | "WAITING":
            return look.say("the figures are old: nothing can be done until they are not")
        case _:
            return look.say("all actions are disabled while disconnected")


def offered(board: Board, role: Role | None) -> bool:
    """Whether a key that acts is shown; None: it does not act. It is hidden where it could not be used."""
    if role is None:
        return True
    if board.recorded or board.read_only:
        return False
    return board.identity is None or role in board.identity.roles
