"""Loading, unloading, pinning. Pure."""

from __future__ import annotations

from typing import Any, Final

from appliance.admin_client import route
from appliance.telemetry.snapshot import ModelFigures
from tui.admin_data import Preflight
from tui.proposals.proposal import REASON, Field, Proposal
from tui.sentence import Sentence, as_written, sentence
from tui.units import seconds, short_gib

DRAIN_SECONDS: Final = 30


def load(model: ModelFigures, free_bytes: int | None, preflight: Preflight | None = None) -> Proposal:
    """Loads a model. What must leave for it, the appliance decides; what is pinned or busy does not."""
    facts: list[Sentence] = []
    if preflight is not None and preflight.evict:
        facts.append(sentence("These are unloaded for it: {models}.", models=", ".join(preflight.evict)))
    if preflight is not None and not preflight.fits:
        facts.append(
            sentence("It does not fit now. It waits until others are idle.")
            if preflight.waits
            else sentence("It does not fit now. It fails.")
        )
    if model.need_bytes is not None:
        size = short_gib(model.need_bytes)
        facts.append(
            sentence("It needs {size}.", size=size)
            if free_bytes is None
            else sentence("It needs {size}, free are {free}.", size=size, free=short_gib(free_bytes))
        )
    if model.fits is False:
        facts.append(
            sentence("It fits only where others leave: models that are idle and not pinned are unloaded for it.")
        )
    if model.load_seconds is not None:
        facts.append(sentence("Loading it took about {time} last time.", time=seconds(model.load_seconds)))
    return Proposal(
        title="LOAD MODEL",
        verb="Load",
        action="model.load",
        resource=model.id,
        role="operator",
        path=route("instances", model.id, "load"),
        command=lambda values: ("models", "load", model.id),
        facts=tuple(facts),
        planned=lambda answer: (sentence("It is {state} now.", state=sentence(answer["state"])),),
        done=lambda answer: (sentence("it begins to load"),),
    )


def unload(model: ModelFigures) -> Proposal:
    """Ends a model's worker, once its requests have ended."""
    sure = model.running > 0 or model.waiting > 0 or model.pinned
    facts = [
        sentence(
            "{running} requests in flight, {waiting} waiting, pinned."
            if model.pinned
            else "{running} requests in flight, {waiting} waiting.",
            running=model.running,
            waiting=model.waiting,
        ),
        sentence("They get {seconds} s to end. The next request loads it again.", seconds=DRAIN_SECONDS),
    ]
    if model.load_seconds is not None:
        facts.append(sentence("Loading it again takes about {time}.", time=seconds(model.load_seconds)))
    return Proposal(
        title="UNLOAD MODEL",
        verb="Unload",
        action="model.unload",
        resource=model.id,
        role="operator",
        path=route("instances", model.id, "unload"),
        command=lambda values: (
            *("models", "unload", model.id, "--drain-seconds", str(DRAIN_SECONDS)),
            *(("--reason", values["reason"]) if values.get("reason") else ()),
        ),
        facts=tuple(facts),
        fields=(Field("exact", "Type the model's name:", exact=model.id), Field("reason", REASON, required=True))
        if sure
        else (),
        body=lambda values: {
            "drain_seconds": float(DRAIN_SECONDS),
            **({"reason": values["reason"]} if values.get("reason") else {}),
        },
        planned=lambda answer: (sentence("By now {running} in flight, {waiting} waiting.", **_counts(answer)),),
        done=lambda answer: (sentence("it is {state}", state=sentence(answer["state"])),),
    )


def pin(model: ModelFigures) -> Proposal:
    """Keeps a model loaded, or lets it leave again."""
    verb = "unpin" if model.pinned else "pin"
    kept = sentence(
        "It may leave again, for want of use or of room."
        if model.pinned
        else "It stays loaded, whoever needs its room, until the next start."
    )
    return Proposal(
        title="UNPIN MODEL" if model.pinned else "PIN MODEL",
        verb="Unpin" if model.pinned else "Pin",
        action=f"model.{verb}",
        resource=model.id,
        role="operator",
        path=route("instances", model.id, verb),
        command=lambda values: ("models", verb, model.id),
        facts=(kept,),
        done=lambda answer: (sentence("it is pinned" if answer["pinned"] else "it is not pinned"),),
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
        facts=(
            sentence("Models that it does not change are not touched; others are replaced without a failed request."),
        ),
        planned=_changes,
        done=_changes,
    )


def _counts(answer: Any) -> dict[str, int]:
    return {"running": answer["running"], "waiting": answer["waiting"]}


def _changes(answer: Any) -> tuple[Sentence, ...]:
    said = tuple(as_written(f"{one['action']} {one['model']}: {', '.join(one['what'])}") for one in answer["changes"])
    return said or (sentence("Nothing has changed."),)
