"""A model as a snapshot of the appliance shows it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from appliance.models.memory_ledger import device_index, is_host, is_mapped, mapped_weights
from appliance.models.residency import Outlook
from appliance.models.snapshot import InstanceSnapshot, InstanceState
from appliance.telemetry.snapshot import DeviceShare, ModelFigures, ServingFigures
from appliance.types import EngineBuffer, MemoryUse, ModelInfo
from appliance.upstream_spec import ServedModel, UpstreamSpec

# What llama.cpp's kinds of buffers are to an operator.
_FIELDS: Final = {
    "model": "weights_bytes",
    "KV": "kv_bytes",
    "RS": "kv_bytes",
    "compute": "compute_bytes",
    "output": "compute_bytes",
}
_LOADED: Final = (InstanceState.READY, InstanceState.DRAINING)


def model_figures(
    spec: ServedModel,
    seen: InstanceSnapshot,
    gpus: Sequence[str],
    serving: ServingFigures | None,
    *,
    queue_depth_max: int,
    system_fingerprint: str | None,
    failing: bool,
    outlook: Outlook | None = None,
) -> ModelFigures:
    """gpus: uuids in llama.cpp's order. failing: its circuit breaker is open. outlook: where it is not loaded."""
    loaded = seen.state in _LOADED
    info = seen.info if loaded else None
    reason = seen.reason or ("it keeps failing, and gets no requests until a probe is answered" if failing else None)
    found = ModelFigures(
        id=spec.id,
        state=seen.state.value,
        aliases=spec.aliases,
        progress=round(seen.progress, 3) if seen.state is InstanceState.STARTING else None,
        running=seen.running,
        waiting=max(0, seen.outstanding - seen.running),
        queue_depth_max=queue_depth_max,
        n_ctx=seen.n_ctx,
        need_bytes=None if outlook is None else outlook.need_bytes,
        fits=None if outlook is None else outlook.fits,
        serving=serving,
        idle_seconds=round(seen.idle_seconds, 1) if seen.pid is not None else None,
        expires_seconds=None if seen.expires_seconds is None else round(seen.expires_seconds, 1),
        pinned=seen.pinned,
        restarts=seen.restarts,
        preemptions=seen.preemptions,
        system_fingerprint=system_fingerprint if loaded else None,
        reason=reason,
        base_urls=tuple(one.base_url for one in spec.replicas) if isinstance(spec, UpstreamSpec) else (),
    )
    return found if info is None else _with_info(found, seen, info, gpus)


def _with_info(found: ModelFigures, seen: InstanceSnapshot, info: ModelInfo, gpus: Sequence[str]) -> ModelFigures:
    return replace(
        found,
        slots=info.parallel,
        kv_used=round(seen.kv_cells / info.n_ctx_total, 4) if info.n_ctx_total and info.kind == "chat" else None,
        n_ctx=info.n_ctx,
        description=info.description,
        kind=info.kind,
        devices=() if info.memory is None else device_shares(info.memory, info.size_bytes, gpus),
        gpu_layers=info.gpu_layers,
        load_seconds=round(info.load_seconds, 3),
    )


def device_shares(use: MemoryUse, model_bytes: int, gpus: Sequence[str]) -> tuple[DeviceShare, ...]:
    """What a model holds, by device, the host's memory first. model_bytes: of all weights.

    Weights that are mapped count once where llama.cpp has copied some of them. Of a GPU, what the driver counts beyond
    llama.cpp's buffers (its context, kernels, cuBLAS's workspace) is for computing too.
    """
    sums: dict[str | None, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_FIELDS.values(), 0))
    for buffer in use.buffers:
        if not is_mapped(buffer):
            sums[_place(buffer, gpus)][_FIELDS[buffer.kind]] += buffer.bytes
    if mapped := mapped_weights(use, model_bytes):
        sums[None]["weights_bytes"] += mapped
    for device in use.devices:
        held = sums[device.uuid]
        held["compute_bytes"] += max(0, device.bytes - sum(held.values()))
    shares = (DeviceShare(gpu=gpu, **fields) for gpu, fields in sums.items())
    return tuple(sorted((share for share in shares if share.bytes), key=lambda share: share.gpu or ""))


def _place(buffer: EngineBuffer, gpus: Sequence[str]) -> str | None:
    """The GPU's uuid, its name where no reading knows it; None for the host."""
    index = None if is_host(buffer.device) else device_index(buffer.device)
    if index is None:
        return None
    return gpus[index] if index < len(gpus) else buffer.device
