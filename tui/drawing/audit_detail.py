"""The lower part of the audit screen: one record in full, with what was before the act and after it. Pure."""

from __future__ import annotations

from typing import Final

from tui import units
from tui.admin_data import AuditRow
from tui.lines import Line, fitted, line
from tui.look import Look

# What an audit record has of a change, as `appliance/security/change_details.py` says; the rest are details.
_BEFORE: Final = ("removed", "before")
_AFTER: Final = ("added", "after", "kid", "revoked", "serial")
# Of these, what says more than its value does.
_NAMED: Final = ("kid", "revoked", "serial")


def audit_lines(row: AuditRow | None, width: int, look: Look) -> list[Line]:
    """Of the record under the cursor."""
    if row is None:
        return []
    say, actor = look.say, row.actor
    head = f"{look.glyphs.rule * 2} #{row.seq} "
    details = "  ".join(f"{name}={value}" for name, value in row.details.items() if name not in (*_BEFORE, *_AFTER))
    lines = [
        line((head + look.glyphs.rule * max(0, width - len(head)), "dim")),
        *_change(row, look),
        line(f" {details or say('no details')}   {say('request')} {row.request_id or units.NONE}"),
        line(
            f' {say("reason")} "{row.reason or ""}"   uid {units.NONE if actor.uid is None else actor.uid}'
            f"  {say('role')} {actor.role or units.NONE}"
            f"  {say('credential')} {actor.credential or units.NONE}"
            f"  {say('address')} {actor.address or units.NONE}"
        ),
        line((f" prev {row.prev[:8]}..{row.prev[-4:]}" if row.prev else "", "dim")),
    ]
    return [fitted(one, width) for one in lines]


def _change(row: AuditRow, look: Look) -> list[Line]:
    """Two lines, or none where the record says of no change."""
    before, after = _said(row, _BEFORE), _said(row, _AFTER)
    if not before and not after:
        return []
    # A record of what was asked for and has not been done; one that is done says so of itself.
    word = look.say("after:") if row.outcome == "ok" else look.say("to be:")
    return [
        line((f" - {look.say('before:')} {before or units.NONE}", "bad" if before else "dim")),
        line((f" + {word} {after or units.NONE}", "good" if after else "dim")),
    ]


def _said(row: AuditRow, names: tuple[str, ...]) -> str:
    return "  ".join(
        f"{name} {row.details[name]}" if name in _NAMED else str(row.details[name])
        for name in names
        if name in row.details
    )
