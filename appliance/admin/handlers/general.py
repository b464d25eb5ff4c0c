"""Who am I, how is it going, read the configuration again, and the second person's part."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from appliance.admin.approvals import Approval
from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused


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
    return _decided(call, lambda given, now: call.site.approvals.approve(given, call.administrator, now))


async def reject(call: Call) -> Answer:
    """Drops what waits."""
    return _decided(call, call.site.approvals.reject)


def _decided(call: Call, decide: Callable[[str, datetime], Approval]) -> Answer:
    """What `decide` makes of the approval that the path names; on record, also where it is refused."""
    given, now = call.match["id"], call.office.now()
    about = next((known for known in call.site.approvals.pending(now) if known.id == given), None)
    details = {"approval": given}
    if about is not None:
        details |= {"action": about.action, "asked_by": about.asked_by, "what": about.what}
    resource = None if about is None else about.resource
    try:
        approval = decide(given, now)
    except ChangeRefused as error:
        call.office.audit.append(call.event("deny", resource, reason=error.message, details=details))
        raise
    call.office.audit.append(call.event("ok", resource, details=details))
    return call.answer(_view(approval))


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
