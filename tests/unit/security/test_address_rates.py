"""appliance.security.address_rates"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.address_rates import AddressRates
from appliance.security.token_bucket import TokenBucket

A, B = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def test_a_burst_then_the_rate() -> None:
    rates = AddressRates(10, 3)
    assert [rates.take(A, 50) for _ in range(3)] == [0, 0, 0]
    assert rates.take(A, 50) == pytest.approx(0.1)
    assert rates.take(B, 50) == 0
    assert rates.take(A, 50.1) == 0
    assert rates.take(A, 50.1) == pytest.approx(0.1)


def test_an_ipv4_address_and_the_same_number_in_ipv6_are_two() -> None:
    rates = AddressRates(1, 1)
    assert rates.take(IPv4Address(1), 0) == 0
    assert rates.take(IPv6Address(1), 0) == 0


def test_debt_makes_the_next_wait_for_longer() -> None:
    rates = AddressRates(1, 2, debt_max=1)
    assert [rates.take(A, 0) for _ in range(6)] == [0, 0, 1, 2, 2, 2]


@given(
    st.sampled_from([(0.5, 1), (7.0, 3), (100.0, 200), (100_000.0, 1000)]),
    st.lists(st.tuples(st.integers(0, 3), st.floats(min_value=0, max_value=3)), max_size=300),
)
def test_each_address_has_a_token_bucket(rate: tuple[float, int], events: list[tuple[int, float]]) -> None:
    per_second, burst = rate
    rates = AddressRates(per_second, burst)
    buckets = [TokenBucket(burst, per_second) for _ in range(4)]
    now = 1000.0
    for number, pause in events:
        now += pause / per_second
        ours, theirs = rates.take(IPv4Address(number), now), buckets[number].take(1, now)
        assert ours == pytest.approx(theirs, abs=3e-6)


def test_full_buckets_are_forgotten() -> None:
    rates = AddressRates(10, 10)
    for number in range(1000):
        rates.take(IPv4Address(number), number / 1000)
    assert len(rates) > 100
    rates.take(A, 3)
    assert len(rates) == 1
    rates.take(B, 1e7)
    assert len(rates) == 1


def test_the_table_is_bounded_and_who_is_slowed_stays_in_it() -> None:
    rates = AddressRates(1, 10, addresses_max=100)
    for _ in range(10):
        assert rates.take(A, 0) == 0
    for number in range(10_000):
        assert rates.take(IPv6Address(number), number * 1e-6) == 0
        assert len(rates) <= 100
    assert rates.take(A, 0.1) > 0.8


def test_who_is_nearest_to_full_gives_way() -> None:
    rates = AddressRates(1, 64, addresses_max=3)
    for address, events in ((1, 5), (2, 2), (3, 9), (4, 7)):
        for _ in range(events):
            rates.take(IPv4Address(address), 0)
    remembered = {address: 64 - _left(rates, address) for address in (3, 4, 1)}
    assert remembered == {3: 9, 4: 7, 1: 5}


def _left(rates: AddressRates, address: int) -> int:
    """How many more events are within the burst."""
    return next(count for count in range(100) if rates.take(IPv4Address(address), 0) > 0)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 0.01, 0.3, 5, 100])), max_size=400),
    st.integers(1, 20),
)
def test_table_and_wheel_agree(events: list[tuple[int, float]], addresses_max: int) -> None:
    rates = AddressRates(3, 5, debt_max=2, addresses_max=addresses_max)
    now = 0.0
    for number, pause in events:
        now += pause
        rates.take(IPv4Address(number), now)
        in_slots = [key for entries in rates._slots.values() for key in entries]
        assert sorted(in_slots) == sorted(rates._full_at)
        assert len(rates) <= addresses_max
        assert all(number >= rates._first for number, entries in rates._slots.items() if entries)
