"""The list behind every list: filter, order, and what stays where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.widgets.ring import Ring


def rows_of(ring: Ring[int]) -> list[int]:
    return [ring.row(ring.number_at(position)) for position in range(len(ring))]


def test_the_newest_is_first() -> None:
    ring: Ring[int] = Ring(3)
    assert ring.extend([1, 2]) == 2
    assert rows_of(ring) == [2, 1]
    assert not ring.full


def test_a_full_ring_drops_the_oldest() -> None:
    ring: Ring[int] = Ring(3)
    ring.extend([1, 2, 3, 4])
    assert rows_of(ring) == [4, 3, 2]
    assert ring.full
    assert ring.position_of(0) is None


@given(
    batches=st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=12),
    rows_max=st.integers(1, 12),
    divisor=st.integers(1, 4),
    sort=st.booleans(),
    reverse=st.booleans(),
)
def test_appending_gives_what_building_anew_would(
    batches: list[list[int]], rows_max: int, divisor: int, sort: bool, reverse: bool
) -> None:
    ring: Ring[int] = Ring(rows_max)
    ring.select(lambda row: row % divisor == 0)
    ring.sort((lambda row: row) if sort else None, reverse=reverse)
    kept: list[int] = []
    for batch in batches:
        ring.extend(batch)
        kept = [*kept, *batch][-rows_max:]
        shown = [row for row in kept if row % divisor == 0]
        if sort:
            assert rows_of(ring) == sorted(shown, reverse=reverse)
        else:
            assert rows_of(ring) == shown[::-1]
        for position in range(len(ring)):
            assert ring.position_of(ring.number_at(position)) == position


def test_find_looks_both_ways() -> None:
    ring: Ring[int] = Ring(9)
    ring.extend(range(6))
    assert ring.find(0, 1, lambda row: row == 2) == 3
    assert ring.find(5, -1, lambda row: row == 2) == 3
    assert ring.find(0, 1, lambda row: row == 7) is None


def test_clearing_keeps_numbers_growing() -> None:
    ring: Ring[str] = Ring(4)
    ring.extend(["a"])
    number = ring.number_at(0)
    ring.clear()
    ring.extend(["b"])
    assert ring.number_at(0) > number
    assert ring.position_of(number) is None
