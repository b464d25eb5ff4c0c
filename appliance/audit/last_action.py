"""What an administrator, or the appliance by itself, did last: from the events that go into the audit log."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from appliance.audit.record import APPLIANCE, AuditEvent
from appliance.telemetry.snapshot import LastAction

# To look at something changes nothing; everything else that has an actor is an act.
_LOOKS: Final = ("read", "list", "show", "export", "test", "head")


def is_act(event: AuditEvent) -> bool:
    """Whether somebody who administers is behind it, or the appliance itself. Pure."""
    actor = event.actor
    return actor.role is not None or actor.uid is not None or actor == APPLIANCE


class LastActions:
    """Remembers the newest act. Belongs to the event loop; `now` is UTC seconds since 1970."""

    def __init__(self) -> None:
        self.latest: LastAction | None = None

    def note(self, event: AuditEvent, now: float) -> None:
        """An event goes into the audit log. Where one was allowed and is done, what it took is known."""
        if not is_act(event) or event.action.rpartition(".")[2] in _LOOKS:
            return
        actor = event.actor
        found = LastAction(
            time=now,
            action=event.action,
            actor=actor.principal or "-",
            outcome=event.outcome,
            resource=event.resource,
        )
        before = self.latest
        if event.outcome in ("ok", "failed") and before is not None and _is_end_of(before, found):
            found = replace(found, time=before.time, seconds=round(now - before.time, 3))
        self.latest = found


def _is_end_of(before: LastAction, found: LastAction) -> bool:
    return before.outcome == "allow" and (before.action, before.actor, before.resource) == (
        found.action,
        found.actor,
        found.resource,
    )
