"""appliance.security.token_bucket"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.token_bucket import TokenBucket

amounts = st.floats(min_value=0, max_value=100)
pauses = st.floats(min_value=0, max_value=200)


def test_it_starts_full_and_refills() -> None:
    bucket = TokenBucket(10, 2)
    assert [bucket.take(4, 100) for _ in range(3)] == [0, 0, 1]
    assert bucket.level(100) == 2
    assert bucket.take(4, 101) == 0
    assert bucket.full_in(101) == 5
    assert bucket.level(1000) == 10


def test_what_is_refused_costs_nothing() -> None:
    bucket = TokenBucket(10, 1)
    bucket.take(9, 0)
    assert bucket.take(5, 0) == 4
    assert bucket.level(0) == 1


def test_debt_is_paid_before_anything_is_taken() -> None:
    bucket = TokenBucket(10, 1)
    bucket.charge(30, 0)
    assert bucket.level(0) == -20
    assert bucket.take(1, 5) == 16
    assert bucket.take(1, 21) == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(10, 1)
    bucket.take(10, 100)
    assert bucket.level(50) == 0
    assert bucket.level(100) == 0
    assert bucket.level(103) == 3


@given(amounts, st.floats(min_value=0, max_value=100), pauses)
def test_putting_back_needs_no_time(taken: float, part: float, pause: float) -> None:
    taken_back = taken * part / 100
    early, late = TokenBucket(100, 3), TokenBucket(100, 3)
    for bucket in (early, late):
        bucket.charge(taken, 0)
    early.put_back(taken_back)
    late.level(pause)
    late.put_back(taken_back)
    assert early.level(pause) == pytest.approx(late.level(pause))


def test_a_full_bucket_stays_full_when_it_is_resized() -> None:
    bucket = TokenBucket(10, 1)
    bucket.resize(100, 10, 5)
    assert bucket.level(5) == 100


@pytest.mark.parametrize("capacity", [5, 50])
def test_debt_survives_a_new_size(capacity: float) -> None:
    bucket = TokenBucket(10, 1)
    bucket.charge(30, 0)
    bucket.resize(capacity, 1, 0)
    assert bucket.level(0) == -20
    assert bucket.level(20) == 0


def test_a_smaller_bucket_holds_less() -> None:
    bucket = TokenBucket(100, 1)
    bucket.take(10, 0)
    bucket.resize(5, 1, 0)
    assert bucket.level(0) == 5


@given(
    st.floats(min_value=1, max_value=1e12),
    st.floats(min_value=0, max_value=1e8),
    st.lists(st.tuples(st.floats(min_value=0, max_value=1), pauses), min_size=1, max_size=30),
)
def test_waiting_as_long_as_told_is_enough_and_no_more_is_spent_than_came_in(
    capacity: float, start: float, takes: list[tuple[float, float]]
) -> None:
    """capacity: of a minute, as the limits of principals have it."""
    rate = capacity / 60
    bucket = TokenBucket(capacity, rate)
    now, spent = start, 0.0
    for share, pause in takes:
        now += pause
        amount = share * capacity
        wait = bucket.take(amount, now)
        if wait > 0:
            assert bucket.take(amount, now) == wait
            now += wait
            assert bucket.take(amount, now) == 0
        spent += amount
        assert spent <= capacity + rate * (now - start + 1e-5) + capacity * 1e-9
