"""The models that are served: what each is doing, loading and unloading, pinning; and draining the whole host."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct

from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused, LoadError
from appliance.models.instance import ModelInstance
from appliance.models.residency import NoRoom
from appliance.models.router import Router

DrainSeconds = Annotated[float, Meta(ge=0, le=240)]


class Unload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """drain_seconds: how long its running requests may take to end. reason: for the audit log."""

    drain_seconds: DrainSeconds = 30.0
    reason: Annotated[str, Meta(max_length=256)] = ""


class Drain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """drain_seconds: how long to wait for the running requests."""

    drain_seconds: DrainSeconds = 60.0


class InstanceView(Struct, frozen=True, kw_only=True):
    """generation: while one takes the other's place, a model has two instances. progress: 0 to 1 while it starts.

    idle_seconds, expires_seconds: as in InstanceSnapshot, None where it is not loaded. reason: why it is not ready, or
    gets no requests. system_fingerprint: of the version that is loaded.
    """

    id: str
    generation: int
    aliases: tuple[str, ...]
    state: str
    progress: float
    running: int
    waiting: int
    pinned: bool
    group: str | None
    idle_seconds: float | None
    expires_seconds: float | None
    restarts: int
    pid: int | None
    n_ctx: int | None
    reason: str | None
    system_fingerprint: str | None


async def show(call: Call) -> Answer:
    """Every model of models.yaml. Looking at one is no use of it."""
    router = _router(call)
    instances = [_view(router, one) for one in router.registry.instances()]
    return call.answer({"draining": router.draining, "instances": instances})


class Preflight(Struct, frozen=True, kw_only=True):
    """What loading a model now would come to.

    fits: at once, or once those in `evict` have left. waits: as soon as others are idle. reason: where it does not, a
    sentence with what would help. layers: of the model, `gpu_layers` of them on GPUs. device_bytes: of each GPU, in the
    machine's order. What is None or empty, nobody can tell.
    """

    fits: bool
    waits: bool = False
    evict: tuple[str, ...] = ()
    reason: str | None = None
    host_bytes: int | None = None
    device_bytes: tuple[int, ...] = ()
    layers: int | None = None
    gpu_layers: int | None = None
    tokens_per_second: float | None = None


async def preflight(call: Call) -> Answer:
    """Whether a model would find room now, who would leave for it, and what would help. No use of it."""
    try:
        found = await _router(call).registry.preflight(_instance(call))
    except LoadError as error:
        return call.answer(Preflight(fits=False, reason=str(error)))
    if isinstance(found, NoRoom):
        return call.answer(Preflight(fits=False, waits=found.waits, reason=found.reason))
    placement = found.placement
    if placement is None:
        return call.answer(Preflight(fits=True, evict=found.evict))
    return call.answer(
        Preflight(
            fits=True,
            evict=found.evict,
            host_bytes=placement.footprint.host,
            device_bytes=placement.footprint.devices,
            layers=placement.layers,
            gpu_layers=placement.n_gpu_layers,
            tokens_per_second=placement.tokens_per_second,
        )
    )


async def load(call: Call) -> Answer:
    """Begins to load a model; `show` tells how far it is."""
    instance = _instance(call)
    if not call.plan:
        before = instance.snapshot().state.value
        changes = {"before": before, "after": before if before == "ready" else "starting"}
        await call.office.audit.append_durably(call.event("allow", instance.spec.id, details=changes))
        instance.load()
        _router(call).try_again(instance.spec.id)
    return call.answer(_view(_router(call), instance))


async def unload(call: Call) -> Answer:
    """Ends a model's worker. The next request for it loads it again."""
    instance, asked = _instance(call), call.parsed(Unload)
    if not call.plan:
        before = {"before": instance.snapshot().state.value}
        why = {"why": asked.reason} if asked.reason else {}
        await call.office.audit.append_durably(call.event("allow", instance.spec.id, details={**before, **why}))
        await asyncio.shield(instance.unload(asked.drain_seconds))
        after = {"after": instance.snapshot().state.value}
        call.office.audit.append(call.event("ok", instance.spec.id, details={**before, **after}))
    return call.answer(_view(_router(call), instance))


async def pin(call: Call) -> Answer:
    """Keeps a model loaded, until the next start, whoever needs its room; does not load it."""
    return await _pin(call, pinned=True)


async def unpin(call: Call) -> Answer:
    """Lets a model leave again."""
    return await _pin(call, pinned=False)


async def drain(call: Call) -> Answer:
    """Refuses new requests, and waits for those that run: before maintenance."""
    router, asked = _router(call), call.parsed(Drain)
    if call.plan:
        return call.answer({"draining": router.draining, "running": router.outstanding})
    await call.office.audit.append_durably(call.event("allow", "host"))
    running = await router.drain(asked.drain_seconds)
    call.office.audit.append(call.event("ok", "host"))
    return call.answer({"draining": router.draining, "running": running})


async def resume(call: Call) -> Answer:
    """Takes requests again."""
    router = _router(call)
    if not call.plan:
        await call.office.audit.append_durably(call.event("allow", "host"))
        router.resume()
    return call.answer({"draining": router.draining, "running": router.outstanding})


async def _pin(call: Call, *, pinned: bool) -> Answer:
    instance = _instance(call)
    if not call.plan:
        changes = {"before": _pinned(instance.pinned), "after": _pinned(pinned)}
        await call.office.audit.append_durably(call.event("allow", instance.spec.id, details=changes))
        instance.pin(pinned)
    return call.answer(_view(_router(call), instance))


def _pinned(pinned: bool) -> str:
    return "pinned" if pinned else "not pinned"


async def apply(call: Call) -> Answer:
    """Serves what models.yaml says now; touches only what has changed."""
    changes = await call.site.premises.apply_models(call.administrator.actor, plan=call.plan)
    return call.answer({"changes": changes})


def _router(call: Call) -> Router:
    if call.site.router is None:
        raise ChangeRefused("conflict", "no daemon runs here; start it, and ask again")
    return call.site.router


def _instance(call: Call) -> ModelInstance:
    router, name = _router(call), call.match["model"]
    instance = router.registry.instance(name)
    if instance is None:
        known = ", ".join(spec.id for spec in router.specs())
        raise ChangeRefused("not_found", f"there is no model {name!r} in models.yaml; known: {known}")
    return instance


def _view(router: Router, instance: ModelInstance) -> InstanceView:
    spec, snapshot = instance.spec, instance.snapshot()
    loaded = snapshot.pid is not None
    failing = "it keeps failing, and gets no requests until a probe is answered" if router.is_failing(spec.id) else None
    return InstanceView(
        id=spec.id,
        generation=instance.generation,
        aliases=spec.aliases,
        state=snapshot.state.value,
        progress=snapshot.progress,
        running=snapshot.running,
        waiting=max(0, snapshot.outstanding - snapshot.running),
        pinned=snapshot.pinned,
        group=spec.group,
        idle_seconds=round(snapshot.idle_seconds, 3) if loaded else None,
        expires_seconds=None if snapshot.expires_seconds is None else round(snapshot.expires_seconds, 3),
        restarts=snapshot.restarts,
        pid=snapshot.pid,
        n_ctx=snapshot.info.n_ctx if loaded and snapshot.info is not None else None,
        reason=snapshot.reason or failing,
        system_fingerprint=instance.origin.system_fingerprint if loaded else None,
    )
