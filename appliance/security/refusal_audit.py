"""Refusals as the audit log has them."""

from __future__ import annotations

from appliance.audit.log import AuditLog
from appliance.audit.record import Actor, AuditEvent
from appliance.security.refusal_log import Refused


def audited_refusals(audit: AuditLog) -> Refused:
    """What tells the audit log of every line of a RefusalLog: those of a flood come folded, with their number."""

    def refused(who: str, code: str, sentence: str, times: int) -> None:
        address, _, client = who.partition(" (client ")
        audit.append(
            AuditEvent(
                action="connection.refuse",
                outcome="deny",
                actor=Actor(address=address, principal=client.removesuffix(")") or None),
                reason=code,
                details={"what": sentence, "times": times},
            )
        )

    return refused
