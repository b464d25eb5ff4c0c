"""appliance.placement.evictions"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from appliance.placement.evictions import evictable, fewest
from appliance.placement.memory import Loaded
from tests.unit.placement.making import MIB, resident


def fits_with(need_mib: int, models: Sequence[Loaded]) -> bool:
    return sum(model.footprint.host for model in models) >= need_mib * MIB


def test_pinned_and_busy_models_are_no_candidates() -> None:
    loaded = [
        resident("b", 1, used=5),
        resident("p", 1, pinned=True),
        resident("u", 1, busy=True),
        resident("a", 1, used=2),
    ]
    assert [model.model for model in evictable(loaded)] == ["a", "b"]


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 40))
def test_no_smaller_choice_fits(sizes: list[int], need: int) -> None:
    candidates = [resident(str(index), size, used=index) for index, size in enumerate(sizes)]
    chosen = fewest(candidates, lambda models: fits_with(need, models))
    if chosen is None:
        assert sum(sizes) < need
        return
    assert fits_with(need, chosen)
    largest = sorted(sizes, reverse=True)
    assert len(chosen) == next(count for count in range(len(sizes) + 1) if sum(largest[:count]) >= need)


def test_among_very_many_none_is_evicted_in_vain() -> None:
    candidates = [resident(str(index), 1 + index % 3, used=index) for index in range(60)]
    chosen = fewest(candidates, lambda models: fits_with(50, models))
    assert chosen is not None and fits_with(50, chosen)
    for model in chosen:
        assert not fits_with(50, [other for other in chosen if other is not model])
