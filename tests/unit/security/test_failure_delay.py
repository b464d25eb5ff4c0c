"""appliance.security.failure_delay"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest

from appliance.security.failure_delay import DELAY_SECONDS_MAX, FailureDelays

A, B = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def test_ten_failures_are_answered_at_once_and_later_ones_late() -> None:
    delays = FailureDelays()
    assert [delays.failed(A, 0).seconds for _ in range(10)] == [0] * 10
    assert [delays.failed(A, 0).seconds for _ in range(4)] == [1, 2, 2, 2]
    assert delays.failed(B, 0).seconds == 0


def test_one_who_waits_for_each_answer_gets_one_a_second() -> None:
    delays = FailureDelays()
    now = 0.0
    for _ in range(100):
        now += delays.failed(A, now).seconds
    assert now == pytest.approx(90, abs=2)


def test_a_pause_makes_good() -> None:
    delays = FailureDelays()
    for _ in range(50):
        assert delays.failed(A, 0).seconds <= DELAY_SECONDS_MAX
    assert delays.failed(A, 11).seconds == 0


def test_so_many_wait_and_then_nobody_more() -> None:
    delays = FailureDelays(delayed_max=2)
    for _ in range(10):
        delays.failed(A, 0)
    with delays.failed(A, 0) as first, delays.failed(A, 0) as second:
        assert min(first.seconds, second.seconds) > 0
        assert delays.delayed == 2
        with delays.failed(A, 0) as third:
            assert (third.seconds, delays.delayed) == (0, 2)
        with delays.failed(B, 0) as other:
            assert other.seconds == 0
    assert delays.delayed == 0
    assert delays.failed(A, 0).seconds > 0


def test_a_delay_that_is_cut_short_counts_no_longer() -> None:
    delays = FailureDelays()
    for _ in range(10):
        delays.failed(A, 0)
    with pytest.raises(KeyboardInterrupt), delays.failed(A, 0):
        raise KeyboardInterrupt
    assert delays.delayed == 0


def test_the_table_is_bounded() -> None:
    delays = FailureDelays()
    for number in range(20_000):
        delays.failed(IPv6Address(number), 0)
    assert len(delays._failures) == 16_384
