"""How many users, at which context, a machine has room for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.gguf.facts import ModelFacts
from appliance.placement.estimate import NO_CORRECTION, Correction, Footprint
from appliance.placement.memory import Memory
from appliance.placement.place import MARGIN_BYTES, Placement, find_place
from appliance.placement.rules import SLOTS_MAX, flash_attention
from appliance.types import CacheType, ModelSpec

_CONTEXT_MIN: Final = 2048
_CONTEXT_MAX: Final = 1_048_576
_N_CTX_MAX: Final = 16_777_216
_CACHE_TYPES: Final[tuple[CacheType, ...]] = ("f16", "q8_0")


class FitRow(Struct, frozen=True, kw_only=True):
    """context: tokens of each user. users: how many at once; 0 where not even one fits, and the rest is then empty.

    footprint, n_gpu_layers, tokens_per_second: with that many users. layers: the output counted as one.
    """

    context: int
    cache_type: CacheType
    users: int
    footprint: Footprint | None = None
    n_gpu_layers: int = 0
    layers: int = 0
    tokens_per_second: float = 0.0


def fit_table(
    facts: ModelFacts,
    spec: ModelSpec,
    memory: Memory,
    *,
    correction: Correction = NO_CORRECTION,
    margin_bytes: int = MARGIN_BYTES,
) -> list[FitRow]:
    """A row for each context, doubling up to the model's own, and each type of cache; nothing is evicted for it.

    More users are counted only while as many layers stay on the GPUs as one user leaves there.
    """

    def answer(context: int, cache_type: CacheType, users: int) -> Placement | None:
        n_ctx = context * users
        if n_ctx > _N_CTX_MAX:
            return None
        asked = replace(spec, n_ctx=n_ctx, parallel=users, cache_type_k=cache_type, cache_type_v=cache_type)
        return find_place(facts, asked, memory, correction, margin_bytes)

    def row(context: int, cache_type: CacheType) -> FitRow:
        one = answer(context, cache_type, 1)
        if one is None:
            return FitRow(context=context, cache_type=cache_type, users=0)
        users, best, low, high = 1, one, 2, SLOTS_MAX
        while low <= high:
            middle = (low + high) // 2
            found = answer(context, cache_type, middle)
            if found is not None and found.n_gpu_layers >= one.n_gpu_layers:
                users, best, low = middle, found, middle + 1
            else:
                high = middle - 1
        return FitRow(
            context=context,
            cache_type=cache_type,
            users=users,
            footprint=best.footprint,
            n_gpu_layers=best.n_gpu_layers,
            layers=best.layers,
            tokens_per_second=best.tokens_per_second,
        )

    types = _CACHE_TYPES if flash_attention(spec) else _CACHE_TYPES[:1]
    return [row(context, cache_type) for context in _contexts(facts) for cache_type in types]


def _contexts(facts: ModelFacts) -> Iterator[int]:
    most = min(facts.context_length or _CONTEXT_MIN, _CONTEXT_MAX)
    context = _CONTEXT_MIN
    while context < most:
        yield context
        context *= 2
    yield most
