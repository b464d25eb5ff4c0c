"""How the layers of a model spread over GPUs and host, and the most of them that GPUs can take.

llama.cpp counts the output as one more layer behind the last; its n_gpu_layers are the last so many of all these. They
go to the GPUs in order, each getting its share of tensor_split (load_tensors of src/llama-model.cpp).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import le
from typing import Final

from appliance.placement.estimate import Footprint, MemoryEstimate
from appliance.placement.memory import Memory

# GGML_SCHED_MAX_COPIES of ggml's scheduler: inputs of several GPUs that work on a batch one behind the other.
PIPELINE_COPIES: Final = 4


class Layout:
    """One model's layers, summed up so that a footprint costs no more than the number of GPUs.

    shares: how the layers on GPUs are to be divided; empty where that is left to us.
    """

    def __init__(self, need: MemoryEstimate, shares: Sequence[float] = ()) -> None:
        self._need = need
        self._shares = shares if sum(shares) > 0 else ()
        self._sums = list(accumulate((layer.bytes for layer in need.layers), initial=0))
        self.items = len(need.layers)

    def footprint(self, split: Sequence[int]) -> Footprint:
        """What it takes where. split: how many layers each GPU takes."""
        need, offloaded = self._need, sum(split)
        start = self.items - offloaded
        host = need.input_weights + self._sums[start] + need.output_buffer + need.process + need.preempted
        host += need.later
        if not offloaded and need.tied_output:
            host -= need.layers[-1].weights
        host += need.compute + need.host_work if start else need.mask + need.input_activations
        fixed = self._fixed(start, several=sum(1 for items in split if items) > 1)
        devices = []
        for items in split:
            devices.append(self._sums[start + items] - self._sums[start] + fixed if items else 0)
            start += items
        return Footprint(host, tuple(devices))

    def split(self, items: int, free: Sequence[int]) -> tuple[int, ...] | None:
        """How the last `items` layers go to GPUs with so many bytes free each; None where they do not fit.

        One GPU where one is enough, the fullest of those: what is left stays in one piece. Else each in its turn takes
        as many as fit.
        """
        none = (0,) * len(free)
        if not items:
            return none
        if self._shares:
            asked = divided(items, (*self._shares, *none)[: len(free)])
            within = asked is not None and all(map(le, self.footprint(asked).devices, free))
            return asked if within else None
        for index in sorted(range(len(free)), key=free.__getitem__):
            alone = (*none[:index], items, *none[index + 1 :])
            if self.footprint(alone).devices[index] <= free[index]:
                return alone
        return self._split_over_several(items, free)

    def most(self, memory: Memory, margin_bytes: int, wanted: int | None = None) -> tuple[int, ...] | None:
        """The split with the most layers on GPUs that fits, host included; None where none does.

        wanted: only this number of layers will do. The margin stays free on every GPU that is used, and on the host.
        """
        free = [device.free_bytes - margin_bytes for device in memory.devices]
        host = memory.host.available_bytes - margin_bytes
        numbers = (
            range(self.items if free else 0, -1, -1) if wanted is None else [min(wanted, self.items) if free else 0]
        )
        for items in numbers:
            split = self.split(items, free)
            if split is not None and self.footprint(split).host <= host:
                return split
        return None

    def _fixed(self, start: int, several: bool) -> int:
        """What a GPU takes beside its layers."""
        need = self._need
        fixed = need.compute + need.device_process + (need.tensor_max if start else 0)
        if several and not start:
            fixed += (PIPELINE_COPIES - 1) * (need.mask + need.input_activations)
        return fixed

    def _split_over_several(self, items: int, free: Sequence[int]) -> tuple[int, ...] | None:
        start = self.items - items
        fixed = self._fixed(start, several=True)
        taken = []
        for room in free:
            # The last sum that is within what this GPU has room for.
            end = max(start, bisect_right(self._sums, self._sums[start] + room - fixed) - 1)
            taken.append(end - start)
            start = end
        return tuple(taken) if start == self.items else None


def divided(items: int, shares: Sequence[float]) -> tuple[int, ...] | None:
    """How many of `items` llama.cpp gives to each GPU for these shares; None where they are all 0."""
    total = sum(shares)
    if not total:
        return None
    ends = [end / total for end in accumulate(shares)]
    counts = [0] * len(shares)
    for item in range(items):
        counts[min(bisect_right(ends, item / items), len(shares) - 1)] += 1
    return tuple(counts)
