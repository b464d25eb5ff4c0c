"""appliance.models.queue_wait"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.models.queue_wait import ServiceTime, wait_seconds


@pytest.mark.parametrize(
    ("outstanding", "own", "principals", "seconds"),
    [
        (0, 0, 1, 0.0),
        (3, 3, 1, 0.0),
        (4, 4, 1, 0.5),
        (11, 11, 1, 4.0),
        (100, 0, 2, 0.0),
        (100, 9, 2, 8.0),
        (20, 15, 20, 8.5),
    ],
)
def test_who_is_alone_waits_for_all_and_who_is_not_for_their_own_turns(
    outstanding: int, own: int, principals: int, seconds: float
) -> None:
    assert wait_seconds(2.0, 4, outstanding, own, principals) == seconds


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 100), st.integers(1, 64))
def test_a_wait_is_never_negative_nor_more_than_for_all(others: int, own: int, principals: int, slots: int) -> None:
    wait = wait_seconds(1.0, slots, others + own, own, principals)
    assert 0 <= wait <= (others + own + 1) / slots


def test_newer_requests_count_more() -> None:
    service = ServiceTime()
    assert service.seconds == 0
    service.note(2.0)
    assert service.seconds == 2.0
    for _ in range(50):
        service.note(4.0)
    assert 3.9 < service.seconds < 4.0
