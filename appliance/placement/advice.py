"""What an operator is told where a model does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from appliance.gguf.facts import ModelFacts
from appliance.placement.estimate import Footprint, MemoryEstimate
from appliance.placement.memory import Memory
from appliance.types import ModelSpec

_GIB: Final = 2**30


class Way(Struct, frozen=True, kw_only=True):
    """One change that makes it fit. words: as in a list after `It would fit with`. spec, facts: with the change.

    evict: models that leave, idle ones that would leave anyway included.
    """

    words: str
    spec: ModelSpec
    facts: ModelFacts
    evict: tuple[str, ...]
    footprint: Footprint


def no_room_sentence(
    spec: ModelSpec, need: MemoryEstimate, in_host: Footprint, free: Memory, margin_bytes: int, ways: tuple[Way, ...]
) -> str:
    """free: what there is once every idle model has gone."""
    parts = f"weights {gib(need.weights)}, cache {gib(need.cache)}, computing {gib(need.compute)}"
    places = [f"{gib(device.free_bytes)} on {device.name}" for device in free.devices]
    places.append(f"{gib(free.host.available_bytes)} of host memory")
    asked = "" if spec.n_gpu_layers == "auto" or not free.devices else f" with n_gpu_layers {spec.n_gpu_layers}"
    said = (
        f"model {spec.id!r} needs about {gib(in_host.total)}{asked} ({parts}); without idle models there is "
        f"{', '.join(places)}, of which {gib(margin_bytes)} each stays free."
    )
    if not ways:
        return f"{said} No setting makes it fit: use a smaller quantisation or a smaller model, or add memory."
    return f"{said} It would fit with: {'; or '.join(way.words for way in ways)}."


def out_of_memory_sentence(reason: str, tried: Sequence[str], ways: Sequence[str]) -> str:
    """reason: why the last attempt failed. tried: what was smaller in each attempt. ways: words, best first."""
    also = f" It was tried with {', then '.join(tried)}." if tried else ""
    if not ways:
        return f"{reason}.{also} Use a shorter n_ctx or a smaller model, or unload others."
    return f"{reason}.{also} It would take less with: {'; or '.join(ways)}."


def gib(count: int) -> str:
    """`3.2 GiB`."""
    return f"{count / _GIB:.1f} GiB"
