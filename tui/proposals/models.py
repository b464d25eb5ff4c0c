"""Loading, unloading, pinning. Pure."""

from __future__ import annotations

from typing import Any, Final

from appliance.admin_client import route
from appliance.telemetry.snapshot import ModelFigures
from tui.admin_data import Preflight
from tui.proposals.proposal import Field, Proposal
from tui.units import seconds, short_gib

DRAIN_SECONDS: Final = 30


def load(model: ModelFigures, free_bytes: int | None, preflight: Preflight | None = None) -> Proposal:
    """Loads a model. What must leave for it, the appliance decides; what is pinned or busy does not."""
    facts = []
    if preflight is not None and preflight.evict:
        facts.append(f"These are unloaded for it: {', '.join(preflight.evict)}.")
    if preflight is not None and not preflight.fits:
        facts.append("It does not fit now. " + ("It waits until others are idle." if preflight.waits else "It fails."))
    if model.need_bytes is not None:
        room = "" if free_bytes is None else f", free are {short_gib(free_bytes)}"
        facts.append(f"It needs {short_gib(model.need_bytes)}{room}.")
    if model.fits is False:
        facts.append("It fits only where others leave: models that are idle and not pinned are unloaded for it.")
    if model.load_seconds is not None:
        facts.append(f"Loading it took about {seconds(model.load_seconds)} last time.")
    return Proposal(
        title="LOAD MODEL",
        verb="Load",
        action="model.load",
        resource=model.id,
        role="operator",
        path=route("instances", model.id, "load"),
        command=lambda values: ("models", "load", model.id),
        facts=tuple(facts),
        planned=lambda answer: (f"It is {answer['state']} now.",),
        done=lambda answer: ("it begins to load",),
    )


def unload(model: ModelFigures) -> Proposal:
    """Ends a model's worker, once its requests have ended."""
    busy = model.running > 0 or model.waiting > 0
    again = "" if model.load_seconds is None else f" Loading it again takes about {seconds(model.load_seconds)}."
    return Proposal(
        title="UNLOAD MODEL",
        verb="Unload",
        action="model.unload",
        resource=model.id,
        role="operator",
        path=route("instances", model.id, "unload"),
        command=lambda values: ("models", "unload", model.id, "--drain-seconds", str(DRAIN_SECONDS)),
        facts=(
            f"{model.running} requests in flight, {model.waiting} waiting{', pinned' if model.pinned else ''}.",
            f"They get {DRAIN_SECONDS} s to end. The next request loads it again.{again}",
        ),
        fields=(Field("exact", "Type the model's name:", exact=model.id),) if busy or model.pinned else (),
        body=lambda values: {"drain_seconds": float(DRAIN_SECONDS)},
        planned=lambda answer: (f"By now {answer['running']} in flight, {answer['waiting']} waiting.",),
        done=lambda answer: (f"{answer['id']} is {answer['state']}",),
    )


def pin(model: ModelFigures) -> Proposal:
    """Keeps a model loaded, or lets it leave again."""
    verb = "unpin" if model.pinned else "pin"
    kept = "It may leave again, for want of use or of room."
    if not model.pinned:
        kept = "It stays loaded, whoever needs its room, until the next start."
    return Proposal(
        title=f"{verb.upper()} MODEL",
        verb=verb.capitalize(),
        action=f"model.{verb}",
        resource=model.id,
        role="operator",
        path=route("instances", model.id, verb),
        command=lambda values: ("models", verb, model.id),
        facts=(kept,),
        done=lambda answer: (f"{answer['id']} is {'' if answer['pinned'] else 'not '}pinned",),
    )


def apply() -> Proposal:
    """Reads models.yaml again."""
    return Proposal(
        title="APPLY models.yaml",
        verb="Apply",
        action="models.apply",
        resource="models.yaml",
        role="operator",
        path="/models/apply",
        command=lambda values: ("models", "apply"),
        facts=("Models that it does not change are not touched; others are replaced without a failed request.",),
        planned=_changes,
        done=_changes,
    )


def _changes(answer: Any) -> tuple[str, ...]:
    said = tuple(f"{one['action']} {one['model']}: {', '.join(one['what'])}" for one in answer["changes"])
    return said or ("Nothing has changed.",)
