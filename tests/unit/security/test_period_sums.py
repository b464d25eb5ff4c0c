"""appliance.security.period_sums"""

from __future__ import annotations

from datetime import date, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.period_sums import PERIODS_KEPT, PeriodSums

DAY = date(2026, 3, 1)


def days(*offsets: int) -> list[date]:
    return [DAY + timedelta(days=offset) for offset in offsets]


def use(sums: PeriodSums, period: date, tokens: int) -> date:
    counted_in = sums.counted_in(period)
    sums.add(counted_in, tokens)
    return counted_in


def test_each_period_has_its_own_sum() -> None:
    sums = PeriodSums()
    for day in days(0, 1, 1, 0):
        assert use(sums, day, 5) == day
    assert [sums.total(day) for day in days(0, 1, 2)] == [10, 10, 0]


def test_a_clock_far_ahead_for_a_while_locks_nobody_out() -> None:
    sums = PeriodSums()
    for day in days(0, 365, 0, *range(1, 100)):
        assert use(sums, day, 5) == day
    assert len(sums.used) == PERIODS_KEPT


def test_a_period_that_was_dropped_counts_in_the_next_one_kept() -> None:
    sums = PeriodSums()
    for day in days(*range(10)):
        use(sums, day, 5)
    assert use(sums, DAY, 5) == sums.counted_in(DAY) == days(6)[0]
    assert sums.total(days(6)[0]) == 10


def test_a_period_before_all_that_are_kept_counts_in_the_first_of_them() -> None:
    sums = PeriodSums()
    for day in days(10, 11, 12, 13):
        use(sums, day, 5)
    assert use(sums, DAY, 5) == days(10)[0]


def test_taking_back_does_not_revive_a_dropped_period() -> None:
    sums = PeriodSums()
    for day in days(*range(PERIODS_KEPT + 1)):
        use(sums, day, 5)
    sums.add(DAY, -5)
    assert DAY not in sums.used


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), max_size=120))
def test_no_quota_is_given_twice(steps: list[tuple[int, int]]) -> None:
    """Whatever the clock does: all that is admitted is at most one quota for each day it ever showed."""
    limit = 10
    sums, given_out, seen = PeriodSums(), 0, set()
    for offset, tokens in steps:
        day = days(offset)[0]
        seen.add(day)
        period = sums.counted_in(day)
        if sums.total(period) + tokens <= limit:
            sums.add(period, tokens)
            given_out += tokens
        assert len(sums.used) <= PERIODS_KEPT
        assert max(sums.used.values(), default=0) <= limit
        assert given_out <= limit * len(seen)
        sums = msgspec.json.decode(msgspec.json.encode(sums), type=PeriodSums)


@pytest.mark.parametrize(
    "text",
    [
        '{"used": {"2026-01-01": -1}}',
        '{"used": {"2026-01-01": 1.5}}',
        '{"used": {"yesterday": 1}}',
        '{"used": {}, "dropped": "2026-01-01"}',
        '{"used": {"2026-01-01": 1}, "dropped": "2026-01-01"}',
        '{"used": {"2026-01-01": 1, "2026-01-02": 1, "2026-01-03": 1, "2026-01-04": 1, "2026-01-05": 1}}',
    ],
)
def test_sums_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=PeriodSums)
