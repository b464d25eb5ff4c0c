"""Verdicts on the models of models.yaml: their files, and whether the machine has room for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.doctor.verdict import Verdict, error, fine, warning
from appliance.gguf.facts import ModelFacts
from appliance.placement.memory import Memory, memory_of
from appliance.placement.place import Placement, place
from appliance.types import HardwareReading, ModelSpec

_GIB: Final = 2**30


class Served(Struct, frozen=True, kw_only=True):
    """A model of models.yaml. trouble: why it cannot be served; facts: of its file, None where it cannot be read.

    spec: None of a model that other servers serve.
    """

    id: str
    trouble: str | None
    spec: ModelSpec | None = None
    facts: ModelFacts | None = None


def file_verdicts(models: Sequence[Served]) -> list[Verdict]:
    """By size and time of change against the manifest; `appliance models verify` reads them."""
    found = [
        error("models", one.trouble, f"`appliance models list`; import {one.id} again, or change models.yaml")
        for one in models
        if one.trouble is not None
    ]
    good = [one.id for one in models if one.trouble is None]
    return [*found, fine("models", f"{', '.join(good)}: there and unchanged")] if good else found


def memory_verdicts(models: Sequence[Served], reading: HardwareReading | None) -> list[Verdict]:
    """Each model alone, and those that are loaded at the start together, on this machine with nothing else on it.

    None where there is no model of our own whose file can be read.
    """
    known = [(one.id, one.spec, one.facts) for one in models if one.spec is not None and one.facts is not None]
    if not known:
        return []
    if reading is None:
        return [warning("memory", "nobody has read how much memory is here", "ask again in some seconds")]
    empty = _emptied(reading)
    found: list[Verdict] = []
    left, together = empty, []
    for name, spec, facts in known:
        alone = place(facts, spec, empty, ())
        if not isinstance(alone, Placement):
            best = alone.ways[0].words if alone.ways else "use a smaller quantisation, or a host with more memory"
            found.append(error("memory", f"{name}: {alone.sentence}", best))
            continue
        if not spec.preload:
            continue
        beside = place(facts, spec, left, ())
        if isinstance(beside, Placement):
            left = left.less(beside.footprint)
            together.append(name)
        else:
            found.append(
                warning(
                    "memory",
                    f"{name} does not fit beside {', '.join(together)}, although all of them have `preload`",
                    f"take `preload` from one of them; {beside.ways[0].words}"
                    if beside.ways
                    else "take `preload` from one",
                )
            )
    room = f"{reading.host.total_bytes / _GIB:.1f} GiB of memory"
    sizes = [(gpu.total_bytes, gpu.name) for gpu in reading.gpus if gpu.total_bytes is not None]
    room += "".join(f", {size / _GIB:.1f} GiB on {name}" for size, name in sizes)
    return found or [fine("memory", f"every model of models.yaml fits; this machine has {room}")]


def _emptied(reading: HardwareReading) -> Memory:
    """As if nothing of it was in use."""
    host = replace(reading.host, available_bytes=reading.host.total_bytes)
    gpus = tuple(replace(gpu, free_bytes=gpu.total_bytes) for gpu in reading.gpus)
    return memory_of(replace(reading, host=host, gpus=gpus))
