"""How fast one user would be answered: what must be read for each token, over what can be read in a second."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.gguf.facts import ModelFacts
from appliance.placement.estimate import MemoryEstimate
from appliance.placement.memory import Memory


def tokens_per_second(facts: ModelFacts, need: MemoryEstimate, split: Sequence[int], memory: Memory) -> float:
    """About: every weight is read once a token, of experts only those that compute it; caches are left out."""
    share = facts.experts_used / facts.experts if facts.experts and facts.experts_used else 1.0
    start = len(need.layers) - sum(split)
    seconds = _read(need, 0, start, share) / memory.host.bytes_per_second
    for device, items in zip(memory.devices, split, strict=True):
        seconds += _read(need, start, start + items, share) / device.bytes_per_second
        start += items
    return 1.0 / seconds if seconds > 0 else 0.0


def _read(need: MemoryEstimate, start: int, end: int, share: float) -> float:
    """The output, the last, has no experts."""
    last = len(need.layers) - 1
    return sum(need.layers[i].weights * (1.0 if i == last else share) for i in range(start, end))
