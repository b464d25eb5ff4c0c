"""Which models leave so that something fits: the fewest, and of those the ones that nobody has used for longest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Final

from appliance.placement.memory import Loaded

# Every choice among nine models; with more, the search settles for one that has none too many.
TRIES_MAX: Final = 512

Fits = Callable[[Sequence[Loaded]], bool]


def evictable(loaded: Sequence[Loaded]) -> list[Loaded]:
    """Those that may leave, least recently used first."""
    return sorted((model for model in loaded if not model.pinned and not model.busy), key=_age)


def fewest(candidates: Sequence[Loaded], fits: Fits) -> tuple[Loaded, ...] | None:
    """The fewest of `candidates`, in their order of preference, without which it fits; None where nothing helps.

    fits: whether it does without these; without more of them it must fit too.
    """
    if not fits(candidates):
        return None
    tries = 0
    for size in range(len(candidates)):
        for chosen in combinations(candidates, size):
            if tries == TRIES_MAX:
                return _none_too_many(candidates, fits)
            tries += 1
            if fits(chosen):
                return chosen
    return tuple(candidates)


def _none_too_many(candidates: Sequence[Loaded], fits: Fits) -> tuple[Loaded, ...]:
    kept = list(candidates)
    for model in reversed(candidates):
        without = [other for other in kept if other is not model]
        if fits(without):
            kept = without
    return tuple(kept)


def _age(model: Loaded) -> tuple[float, str]:
    return model.last_used, model.model
