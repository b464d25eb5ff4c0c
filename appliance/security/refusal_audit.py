"""Refusals as the audit log has them."""

from __future__ import annotations

from appliance.audit.log import AuditLog
from appliance.audit.record import Actor, AuditEvent
from appliance.security.refusal_log import Refused


def audited_refusals(audit: AuditLog) -> Refused:
    """What tells the audit log of every line of a RefusalLog: those of a flood come folded, with their number."""

    def refused(address: str, code: str, sentence: str, times: int, principal: str | None) -> None:
        audit.append(
            AuditEvent(
                action="connection.refuse",
                outcome="deny",
                actor=Actor(address=address, principal=principal),
                reason=code,
                details={"what": sentence, "times": times},
            )
        )

    return refused
