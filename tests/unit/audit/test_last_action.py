"""appliance.audit.last_action"""

from __future__ import annotations

from appliance.audit.last_action import LastActions
from appliance.audit.record import APPLIANCE, Actor, AuditEvent, Outcome
from appliance.telemetry.snapshot import LastAction

WANG = Actor(principal="wang", role="operator", uid=1000)


def event(action: str, outcome: Outcome, actor: Actor = WANG, resource: str | None = "bge-m3") -> AuditEvent:
    return AuditEvent(action=action, outcome=outcome, actor=actor, resource=resource)


def test_an_act_from_its_begin_to_its_end() -> None:
    actions = LastActions()
    actions.note(event("model.unload", "allow"), 100.0)
    assert actions.latest == LastAction(
        time=100.0, action="model.unload", actor="wang", outcome="allow", resource="bge-m3"
    )
    actions.note(event("model.unload", "ok"), 103.1)
    assert actions.latest == LastAction(
        time=100.0, action="model.unload", actor="wang", outcome="ok", resource="bge-m3", seconds=3.1
    )


def test_the_end_of_another_act_is_one_of_its_own() -> None:
    actions = LastActions()
    actions.note(event("model.unload", "allow"), 100.0)
    actions.note(event("model.unload", "ok", resource="other"), 101.0)
    assert actions.latest is not None and actions.latest.seconds is None


def test_looks_and_requests_are_no_acts() -> None:
    actions = LastActions()
    actions.note(event("evidence.read", "ok"), 1.0)
    actions.note(event("api.request", "ok", Actor(principal="ci", address="10.0.0.1")), 2.0)
    actions.note(event("connection.refuse", "deny", Actor(address="10.0.0.1")), 3.0)
    assert actions.latest is None


def test_the_appliance_acts_too() -> None:
    actions = LastActions()
    actions.note(event("server.renew", "ok", APPLIANCE), 4.0)
    assert actions.latest is not None and actions.latest.actor == "appliance"
