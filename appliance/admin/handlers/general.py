"""Who am I, how is it going, read the configuration again, and the second person's part."""

from __future__ import annotations

from msgspec import Struct

from appliance.admin.approvals import Approval
from appliance.admin.route import Answer, Call
from appliance.audit.record import AuditEvent


class Reload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """force: also where addresses that were here lately would be shut out."""

    force: bool = False


async def whoami(call: Call) -> Answer:
    """How the appliance sees the one who asks."""
    who = call.administrator
    return call.answer({"name": who.name, "uid": who.uid, "roles": sorted(who.roles)})


async def status(call: Call) -> Answer:
    """What is going on."""
    return call.answer(call.site.premises.status())


async def reload(call: Call) -> Answer:
    """Reads appliance.yaml again, all or nothing."""
    return call.answer(await call.site.premises.reload(call.administrator.actor, force=call.parsed(Reload).force))


async def approvals(call: Call) -> Answer:
    """What waits for a second person."""
    return call.answer([_view(approval) for approval in call.site.approvals.pending(call.office.now())])


async def approve(call: Call) -> Answer:
    """Agrees to what another administrator asked for."""
    approval = call.site.approvals.approve(call.match["id"], call.administrator, call.office.now())
    _note(call, "approval.approve", approval)
    return call.answer(_view(approval))


async def reject(call: Call) -> Answer:
    """Drops what waits."""
    approval = call.site.approvals.reject(call.match["id"], call.office.now())
    _note(call, "approval.reject", approval)
    return call.answer(_view(approval))


def _note(call: Call, action: str, approval: Approval) -> None:
    call.office.audit.append(
        AuditEvent(
            action=action,
            outcome="ok",
            actor=call.administrator.actor,
            resource=approval.resource,
            details={"approval": approval.id, "action": approval.action, "asked_by": approval.asked_by},
        )
    )


def _view(approval: Approval) -> dict[str, object]:
    return {
        "id": approval.id,
        "action": approval.action,
        "resource": approval.resource,
        "what": approval.what,
        "asked_by": approval.asked_by,
        "approved_by": approval.approved_by,
        "until": approval.until,
    }
