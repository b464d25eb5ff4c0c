"""What there is to see while the appliance does not answer: its host, and the way out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tui.drawing.frame import KeyHint
from tui.lines import EMPTY, Line, fit, line, shorten, stretched
from tui.look import Look
from tui.source import Surroundings

HINTS = (
    KeyHint("?", "Help"),
    KeyHint("R", "Retry"),
    KeyHint("j", "Journal"),
    KeyHint("d", "Diagnose"),
    KeyHint("h", "Runbook"),
    KeyHint("q", "Quit"),
)


def disconnected(found: Surroundings | None, local: bool, width: int, height: int, look: Look) -> list[Line]:
    """Below the last figures. local: whether the appliance runs on this host."""
    cut = look.glyphs.cut
    if not local:
        said = look.say("It runs on another host: log in there, or look at the network between you and it.")
        return stretched([EMPTY, line(f" {shorten(said, width - 2, cut)}")], height)
    if found is None:
        return stretched([EMPTY, line((f" {look.say('looking at this host')}...", "dim"))], height)
    lines: list[Line] = [line((f" {look.say('Seen from this host without the appliance')}:", "head"))]
    for name, said, good in found.facts:
        lines.append(line(f"   {fit(name, 9)} ", (shorten(said, width - 14, cut), "" if good else "bad")))
    room = height - len(lines) - 3
    lines.append(line((f" {look.say('Last journal lines')}:", "head")))
    lines += _journal(found.journal, room, width, look)
    keys = look.say("R retry   j journal   d write diagnose bundle   h runbook AppDown")
    return [*stretched(lines, height - 2), EMPTY, line((f" {keys}", "accent"))]


def _journal(journal: Sequence[str], rows: int, width: int, look: Look) -> list[Line]:
    if not journal:
        said = look.say("none that you may read: ask for the group systemd-journal, or log in as root")
        return [line((f"   {said}", "dim"))]
    return [line(f"   {shorten(one, width - 4, look.glyphs.cut)}") for one in journal[-max(1, rows) :]]
