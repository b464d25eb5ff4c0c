"""The frame around every screen: title, tabs, alert strip, status and key lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from tui import units
from tui.board import Board, State
from tui.lines import Line, Role, apart, cells, fitted, line, shorten, width_of
from tui.look import Look
from tui.source import Identity
from tui.source import Role as AdministratorRole

WIDTH_MIN: Final = 80
HEIGHT_MIN: Final = 24
MEDIUM: Final = 120
WIDE: Final = 160
TABS: Final = ("Overview", "Models", "Requests", "Keys", "Allow", "Audit", "Logs")
KEYS_NARROW: Final = 7
# From so long before its end on, one's own certificate is spoken of at any width.
_DAY: Final = 86_400.0
_OWN_SOON_SECONDS: Final = 14 * _DAY

_STATE_ROLES: Final[dict[State, Role]] = {
    "WAITING": "dim",
    "LIVE": "good",
    "PAUSED": "warn",
    "STALE": "warn",
    "NO DATA": "bad",
    "REPLAY": "replay",
}


@dataclass(frozen=True, slots=True)
class KeyHint:
    """One entry of the key line. wide: shown only where there is room for more than seven. role: of what acts."""

    key: str
    word: str
    wide: bool = False
    role: AdministratorRole | None = None


def title(board: Board, now: float, wall: float, width: int, look: Look) -> Line:
    """Which appliance, how fresh its figures are, who is looking, and what time it is.

    wall: the time that is shown, UTC seconds since 1970.
    """
    snapshot = board.snapshot
    host = "-" if snapshot is None else snapshot.host_name
    who = board.identity
    said = [] if who is None else [f"{who.name} {_role(who)}@{who.via}"]
    parts = line(
        (" app ", "dim"), (host, "title"), "  ", _state(board, now, look), _certificate(who, wall, width, look)
    )
    if said:
        parts = line(parts, "  ", said[0])
    if board.read_only or board.recorded:
        parts = line(parts, (" RO", "warn"))
    if width >= MEDIUM and snapshot is not None:
        up = units.duration(snapshot.time - snapshot.started)
        parts = line(parts, f"   {look.say('up')} {up}   v{snapshot.version}")
        if snapshot.engine_build:
            parts = line(parts, f"  llama.cpp {snapshot.engine_build}")
    if snapshot is not None and snapshot.draining:
        parts = line(parts, ("  DRAINING", "warn"))
    shown = snapshot.time if board.recorded and snapshot is not None else wall
    return apart(parts, line(" ", units.stamp(shown, look.zone)), width)


def _certificate(who: Identity | None, wall: float, width: int, look: Look) -> Line:
    """How long the operator's own certificate lasts: where there is room for it, and where it ends soon."""
    if who is None or who.until is None:
        return ()
    left = who.until - wall
    soon = left < _OWN_SOON_SECONDS
    if not soon and width < MEDIUM:
        return ()
    said = look.say("over") if left <= 0 else f"{left / _DAY:.0f}d" if left >= _DAY else units.duration(left)
    return line((f"  {look.say('cert')} {said}", "warn" if soon else "dim"))


def _role(who: Identity) -> str:
    """The first of their roles, and how many more they have."""
    held = [role for role in get_args(AdministratorRole) if role in who.roles] or list(who.roles)
    return "-" if not held else held[0] if len(held) == 1 else f"{held[0]}+{len(held) - 1}"


def _state(board: Board, now: float, look: Look) -> Line:
    state = board.state(now)
    word = look.say(state)
    role = _STATE_ROLES[state]
    if state == "PAUSED":
        return line((f"{word} +{board.waiting}", role))
    if state == "REPLAY" and board.snapshot is not None:
        return line((f"{word} {units.minute(board.snapshot.time, look.zone)}", role))
    age = board.age(now)
    if age is None:
        return line((word, role))
    return line((f"{word} {age:.1f}s" if age < 10 else f"{word} {units.duration(age)}", role))


def tabs(board: Board, chosen: int, width: int, look: Look) -> Line:
    """The screens, and how many alerts are on."""
    parts: Line = line(" ")
    for number, name in enumerate(TABS):
        said = f"{number + 1}{look.say(name)}"
        parts = line(parts, (f"<{said}>", "tab") if number == chosen else said, " ")
    firing = board.firing
    if board.snapshot is None or board.lost is not None:
        return apart(parts, line(("[a]?", "dim")), width)
    count = f"[a]!{len(firing)}" if firing else "[a]0"
    role: Role = "bad" if firing and firing[0].severity == "critical" else "warn" if firing else "dim"
    return apart(parts, line((count, role)), width)


def alert_strip(board: Board, now: float, width: int, look: Look) -> Line | None:
    """The worst of what is wrong; None while all is well."""
    if board.lost is not None:
        wait = max(0, round(board.lost.retry_at - now))
        right = line(f"  {look.say('retry in')} {wait}s ({look.say('R now')})")
        room = width - width_of(right) - 4
        reason = f": {look.say(board.lost.reason)}"
        # Of the two, the reason is what is not known yet.
        where = shorten(
            board.where, max(12, room - cells(look.say("DISCONNECTED")) - 2 - cells(reason)), look.glyphs.cut
        )
        said = f"{look.say('DISCONNECTED')}  {where}{reason}"
        return apart(line((" !! ", "bad"), (shorten(said, room, look.glyphs.cut), "bad")), right, width)
    firing = board.firing
    if not firing:
        return None
    shown = firing[: 2 if width >= WIDE else 1]
    more = len(firing) - len(shown)
    tail = f"+{more} {look.say('more')} [a]" if more else f"[a] {look.say('all alerts')}" if width >= WIDE else "[a]"
    room = (width - len(tail) - 4) // len(shown)
    parts: Line = ()
    for alert in shown:
        critical = alert.severity == "critical"
        mark = " !! CRIT" if critical else "  ! WARN"
        about = "" if alert.what in alert.summary else f" {alert.what}"
        said = f"{mark} {alert.name}{about}: {alert.summary}"
        if cells(said) > room:
            # The figure is at the end; what it is called is in the list of alerts.
            said = f"{mark}{about} {alert.summary}"
        if len(shown) > 1:
            said = said.lstrip() if parts else said
        text = shorten(said, room, look.glyphs.cut)
        parts = line(
            parts, (text, "bad" if critical else "warn"), " " * max(0, room - cells(text)) if len(shown) > 1 else ""
        )
    return apart(parts, line(tail), width)


def key_line(hints: Sequence[KeyHint], width: int, look: Look) -> Line:
    """What the keys do here: at most seven where it is narrow, and where the others are."""
    gap = "  " if width >= WIDE else " "
    narrow = width < WIDE
    # Those for wide screens come last, where there is room for them.
    ordered = sorted(hints, key=lambda hint: hint.wide) if narrow else list(hints)
    commands = line(("^p", "accent"), f" {look.say('Commands')}")
    parts: Line = line(" ")
    for hint in ordered[:KEYS_NARROW] if narrow else ordered:
        said = line((hint.key, "accent"), "=" if len(hint.key) > 2 else "", look.say(hint.word), gap)
        if width_of(parts) + width_of(said) + width_of(commands) > width:
            break
        parts = line(parts, said)
    return apart(parts, commands, width)


def too_small(width: int, height: int, look: Look) -> list[Line]:
    """Instead of everything, where the terminal has no room for it."""
    said = look.say("terminal too small")
    return [
        fitted(line((f" {said}: {width}x{height}", "warn")), width),
        fitted(line(f" {look.say('it takes')} {WIDTH_MIN}x{HEIGHT_MIN}"), width),
    ]
