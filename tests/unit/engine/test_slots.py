"""Which slot a prompt gets, and what the books say of the cells."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.slots import PrefixReuse, Slot, SlotPool, common_prefix_length
from tests.unit.engine.making import make_sequence

tokens = st.lists(st.integers(0, 2), max_size=30)


@given(tokens, tokens)
def test_common_prefix_is_the_naive_one(left: list[int], right: list[int]) -> None:
    naive = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))))
    assert common_prefix_length(left, right) == naive


def pool_with(*residents: list[int], reuse: PrefixReuse = "any") -> SlotPool:
    """A pool whose slots were released in their order, with these tokens."""
    pool = SlotPool(len(residents), 1000, reuse)
    for number, resident in enumerate(residents):
        if resident:
            occupy(pool, number, resident)
    for slot in list(pool):
        if slot.sequence is not None:
            pool.release(slot)
    return pool


def occupy(pool: SlotPool, number: int, prompt: list[int]) -> Slot:
    slot, _ = pool.bind(make_sequence(number, prompt))
    slot.tokens[:] = prompt
    return slot


def test_the_longest_common_prefix_is_chosen_and_the_rest_is_dropped() -> None:
    pool = pool_with([1, 2, 9, 9], [1, 2, 3, 9, 9], [5, 5])
    slot, held = pool.bind(make_sequence(7, [1, 2, 3, 4]))
    assert (slot.index, held, slot.tokens) == (1, 5, [1, 2, 3])
    assert pool.cells == 4 + 3 + 2


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    pool = pool_with([1, 2, 3])
    slot, _ = pool.bind(make_sequence(7, [1, 2, 3]))
    assert slot.tokens == [1, 2]


def test_a_slot_in_use_is_not_shared() -> None:
    pool = pool_with([1, 2, 3], [])
    first, _ = pool.bind(make_sequence(1, [1, 2, 3, 4]))
    second, _ = pool.bind(make_sequence(2, [1, 2, 3, 4]))
    assert first.index == 0
    assert (second.index, second.tokens) == (1, [])


def test_a_shared_first_token_does_not_cost_a_long_resident() -> None:
    pool = pool_with([0, *range(1, 50)], [])
    slot, _ = pool.bind(make_sequence(7, [0, *range(100, 150)]))
    assert slot.index == 1


def test_the_slot_released_first_goes_first() -> None:
    pool = pool_with([1] * 20, [2] * 20)
    slot, _ = pool.bind(make_sequence(7, [3] * 20))
    assert (slot.index, slot.tokens) == (0, [])
    idle = pool.oldest_idle()
    assert idle is not None and idle.index == 1


def test_a_recurrent_state_is_continued_whole_or_not_at_all() -> None:
    whole, _ = pool_with([1, 2, 3], reuse="whole").bind(make_sequence(7, [1, 2, 3, 4]))
    assert whole.tokens == [1, 2, 3]
    part, _ = pool_with([1, 2, 3], reuse="whole").bind(make_sequence(7, [1, 2, 4]))
    assert part.tokens == []
    same, _ = pool_with([1, 2, 3], reuse="whole").bind(make_sequence(7, [1, 2, 3]))
    assert same.tokens == []


def test_integrity_finds_foreign_tokens() -> None:
    pool = pool_with([])
    slot, _ = pool.bind(make_sequence(7, [1, 2, 3]))
    pool.check_integrity()
    slot.tokens[:] = [1, 9]
    with pytest.raises(AssertionError, match="other tokens"):
        pool.check_integrity()
