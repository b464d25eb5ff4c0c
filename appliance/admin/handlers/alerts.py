"""Alerts: what is wrong, who attends to it, and whether people are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from appliance.admin.route import Answer, Call
from appliance.alerting.rules import RULES, is_of_somebody
from appliance.alerting.watch import AlertWatch
from appliance.errors import ChangeRefused
from appliance.telemetry.snapshot import AlertFigures

SILENCE_SECONDS_MAX: Final = 30 * 86_400
RESOLVED_SECONDS: Final = 86_400.0

What = Annotated[str, Meta(max_length=512)]
Note = Annotated[str, Meta(min_length=1, max_length=500)]
_NAMES: Final = frozenset(rule.name for rule in RULES)


class Ack(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """name, what: as `show` has them. note: what is being done."""

    name: str
    what: What
    note: Note


class SilenceFor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """what: of one thing; empty: every alert of that name. seconds: from now; 0 ends a silence."""

    name: str
    what: What = ""
    seconds: Annotated[int, Meta(ge=0, le=SILENCE_SECONDS_MAX)] = 3600
    reason: Note


async def show(call: Call) -> Answer:
    """What is wrong and lately was, who is told, and what nobody is told of; to a viewer less."""
    watch = _watch(call)
    alerts = watch.figures(RESOLVED_SECONDS)
    if not call.administrator.knows_clients:
        return call.answer({"alerts": alerts_without_clients(alerts), "silences": [], "receivers": []})
    return call.answer({"alerts": alerts, "silences": watch.silences, "receivers": watch.receivers})


def alerts_without_clients(found: Iterable[AlertFigures]) -> tuple[AlertFigures, ...]:
    """As a viewer may see them: without those of somebody's certificate, of receivers, and who attends. Pure."""
    return tuple(replace(one, acked_by=None, note=None) for one in found if not is_of_somebody(one.name, one.what))


async def ack(call: Call) -> Answer:
    """Somebody attends to an alert: a warning is not repeated any more, a critical one is."""
    watch, asked = _watch(call), call.parsed(Ack)
    found = watch.check_on(asked.name, asked.what)
    if not call.plan:
        resource = f"{asked.name} {asked.what}"
        await call.office.audit.append_durably(call.event("allow", resource, details={"note": asked.note}))
        found = watch.ack(asked.name, asked.what, call.administrator.name, asked.note)
    return call.answer(found)


async def silence(call: Call) -> Answer:
    """Nobody is told of an alert for a while; the dashboard shows it all the same."""
    watch, asked = _watch(call), call.parsed(SilenceFor)
    if asked.name not in _NAMES:
        raise ChangeRefused("not_found", f"there is no alert {asked.name!r}; known: {', '.join(sorted(_NAMES))}")
    if not call.plan:
        details: dict[str, str | int] = {"seconds": asked.seconds, "reason": asked.reason}
        resource = f"{asked.name} {asked.what}".strip()
        await call.office.audit.append_durably(call.event("allow", resource, details=details))
        watch.silence(asked.name, asked.what, asked.seconds, call.administrator.name, asked.reason)
    return call.answer({"silences": watch.silences})


async def test(call: Call) -> Answer:
    """Sends every receiver a message that means nothing, and waits for how it goes."""
    watch = _watch(call)
    if call.plan:
        return call.answer({"receivers": [{"name": one.name} for one in watch.receivers]})
    await call.office.audit.append_durably(call.event("allow", "receivers"))
    tested = await watch.test(call.administrator.name)
    failed = ", ".join(one.name for one in tested if one.failure is not None)
    call.office.audit.append(call.event("failed" if failed else "ok", failed or "receivers"))
    return call.answer({"receivers": tested})


def _watch(call: Call) -> AlertWatch:
    if call.site.alerts is None:
        raise ChangeRefused("conflict", "no daemon runs here; start it, and ask again")
    return call.site.alerts
