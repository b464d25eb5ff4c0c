"""Which slot a prompt gets, and what the books say of the cells."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.plan import CopyPrefix, KeepPrefix, RestoreState, SaveState, SwapSlots
from appliance.engine.slots import Prefix, PrefixReuse, Slot, SlotPool, common_prefix_length
from tests.unit.engine.making import make_sequence

tokens = st.lists(st.integers(0, 2), max_size=30)


@given(tokens, tokens)
def test_common_prefix_is_the_naive_one(left: list[int], right: list[int]) -> None:
    naive = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))))
    assert common_prefix_length(left, right) == naive


def pool_with(*residents: list[int], reuse: PrefixReuse = "any", split: bool = False) -> SlotPool:
    """Idle residents, released in this order."""
    pool = SlotPool(len(residents), 1000, reuse, split=split)
    bound = [occupy(pool, number, resident) for number, resident in enumerate(residents) if resident]
    for slot in bound:
        pool.release(slot)
    pool.take_ops()
    return pool


def occupy(pool: SlotPool, number: int, prompt: list[int], *, computed: int | None = None) -> Slot:
    slot = pool.place(make_sequence(number, [*prompt, 0]), None)
    pool.grow(slot, prompt[:computed])
    return slot


def place(pool: SlotPool, prompt: list[int], *, number: int = 7) -> Slot:
    sequence = make_sequence(number, prompt)
    return pool.place(sequence, pool.find_prefix(sequence))


def test_the_longest_prefix_is_found_and_the_last_token_of_a_prompt_is_always_computed() -> None:
    pool = pool_with([1, 2, 9, 9], [1, 2, 3, 9, 9], [5, 5])
    prefix = pool.find_prefix(make_sequence(7, [1, 2, 3, 4]))
    assert prefix is not None and (prefix.slot.index, prefix.keep) == (1, 3)
    prefix = pool.find_prefix(make_sequence(7, [5, 5]))
    assert prefix is not None and (prefix.slot.index, prefix.keep) == (2, 1)
    assert pool.find_prefix(make_sequence(7, [8, 8])) is None


def test_a_conversation_goes_on_in_its_slot() -> None:
    pool = pool_with(list(range(40)), [90])
    slot = place(pool, [*range(38), 70, 71])
    assert (slot.index, len(slot.tokens)) == (0, 38)
    assert pool.take_ops() == (KeepPrefix(0, 38),)


def test_another_prompt_copies_and_the_resident_stays() -> None:
    pool = pool_with(list(range(40)), [])
    slot = place(pool, [*range(20), 70, 71])
    assert (slot.index, slot.tokens) == (1, list(range(20)))
    assert pool.take_ops() == (CopyPrefix(0, 1, 20),)
    assert (pool.cells, pool[0].tokens) == (40, list(range(40)))


def test_a_prefix_is_copied_from_a_running_sequence() -> None:
    pool = pool_with([], [])
    running = occupy(pool, 1, list(range(40)), computed=30)
    slot = place(pool, [*range(35), 70])
    assert slot is not running and slot.tokens == list(range(30))
    assert pool.take_ops() == (CopyPrefix(0, 1, 30),)


def test_an_empty_slot_then_the_one_released_first_gives_way() -> None:
    pool = pool_with([1] * 20, [2] * 20, [])
    assert [place(pool, [number] * 20, number=number).index for number in (7, 8, 9)] == [2, 0, 1]


def test_what_a_parked_sequence_computed_is_saved_when_its_slot_goes() -> None:
    pool = pool_with([], [])
    parked = make_sequence(1, list(range(40)))
    slot = pool.place(parked, None)
    pool.grow(slot, parked.tokens[:30])
    pool.release(slot, parked=True)
    assert place(pool, [5, 6], number=2).index == 1
    assert place(pool, [7, 8], number=3) is slot
    assert pool.take_ops() == (SaveState(0, 1), KeepPrefix(0, 0))
    assert parked.saved == 30
    pool.release(slot)
    assert place(pool, parked.tokens, number=1).tokens == []
    pool.release(slot)
    pool.take_ops()
    back = pool.place(parked, pool.find_prefix(parked))
    assert (back.tokens, parked.saved) == (list(range(30)), 0)
    assert pool.take_ops() == (RestoreState(back.index, 1, 30),)


def test_a_short_prefix_is_not_worth_copying_a_stream() -> None:
    pool = pool_with(list(range(100)), [], split=True)
    assert place(pool, [*range(20), 500]).tokens == []
    pool = pool_with(list(range(100)), [], split=True)
    assert place(pool, [*range(40), 500]).tokens == list(range(40))
    assert pool.cells == 140, "a copied stream has cells of its own"


def test_a_recurrent_state_is_continued_whole_or_not_at_all() -> None:
    assert place(pool_with([1, 2, 3], reuse="whole"), [1, 2, 3, 4]).tokens == [1, 2, 3]
    assert place(pool_with([1, 2, 3], reuse="whole"), [1, 2, 4]).tokens == []
    assert place(pool_with([1, 2, 3], reuse="whole"), [1, 2, 3]).tokens == []


def test_a_checkpoint_is_copied_and_never_used_up() -> None:
    pool = pool_with([], [], [], reuse="whole")
    running = occupy(pool, 1, [1, 2, 3])
    pool.keep_checkpoint(Prefix(running, 3))
    pool.release(running)
    pool.clear(running)
    for number in (2, 3):
        slot = place(pool, [1, 2, 3, number], number=number)
        assert (slot.tokens, slot.checkpoint) == ([1, 2, 3], False)
    assert [slot.tokens for slot in pool if slot.checkpoint] == [[1, 2, 3]]


def test_nothing_is_shared_between_cache_domains() -> None:
    pool = pool_with(list(range(40)), [])
    foreign = make_sequence(7, list(range(40)))
    foreign.cache_domain = "other"
    assert pool.find_prefix(foreign) is None


def test_integrity_finds_foreign_tokens() -> None:
    pool = pool_with([])
    slot = occupy(pool, 1, [1, 2, 3])
    pool.check_integrity()
    slot.tokens[:] = [1, 9, 3]
    with pytest.raises(AssertionError, match="other tokens"):
        pool.check_integrity()


def test_running_slots_are_moved_next_to_each_other() -> None:
    pool = SlotPool(6, 1000, "any", split=True)
    bound = [occupy(pool, number, [number] * 5) for number in range(1, 7)]
    for index in (1, 2, 4):
        pool.release(bound[index])
    pool.take_ops()
    (moved,) = pool.close_gaps()
    assert pool.take_ops() == (SwapSlots(0, 4),)
    assert moved.index == 4 and moved.sequence is not None and moved.tokens == [1] * 5
    assert [slot.index for slot in pool if slot.sequence is not None] == [3, 4, 5]
    assert pool[0].tokens == [5] * 5
    pool.check_integrity()
