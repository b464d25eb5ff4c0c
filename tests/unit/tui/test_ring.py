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


def test_older_rows_are_put_in_front_and_forgotten_again() -> None:
    ring = Ring[int](4, older_max=3)
    ring.extend([10, 11, 12])
    kept = ring.number_at(2)
    assert ring.put_in_front([9, 8]) == 2
    assert rows_of(ring) == [12, 11, 10, 9, 8]
    assert (ring.older, ring.full, ring.row(kept)) == (2, True, 10)
    # There is room for so many.
    assert ring.put_in_front([7, 6, 5]) == 2
    assert rows_of(ring) == [12, 11, 10, 9, 8, 7, 6]
    # New ones take the oldest one's place.
    ring.extend([13, 14])
    assert rows_of(ring) == [14, 13, 12, 11, 10, 9, 8]
    ring.forget_older()
    assert rows_of(ring) == [14, 13, 12, 11]
    ring.extend([15])
    assert rows_of(ring) == [15, 14, 13, 12]


def test_older_rows_are_filtered_and_sorted_as_the_others() -> None:
    ring = Ring[int](10, older_max=10)
    ring.extend([10, 11])
    ring.select(lambda row: row % 2 == 0)
    ring.sort(lambda row: float(row))
    ring.put_in_front([9, 8, 7, 6])
    assert rows_of(ring) == [6, 8, 10]
    assert ring.position_of(ring.number_at(1)) == 1
    ring.extend([12])
    ring.forget_older()
    assert rows_of(ring) == [10, 12]


def test_nothing_is_older_where_nothing_was_put_in_front() -> None:
    ring = Ring[int](3)
    ring.extend([1, 2, 3, 4])
    ring.forget_older()
    assert (ring.older, rows_of(ring)) == (0, [4, 3, 2])
