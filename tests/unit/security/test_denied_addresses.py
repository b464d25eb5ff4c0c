"""appliance.security.denied_addresses: an hour's denials of each address, in bounded memory."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from appliance.security.denied_addresses import DeniedAddress, DeniedAddresses

CLIENT = ip_address("10.31.4.9")


def scan(denied: DeniedAddresses, count: int, now: float, first: int = 2**31) -> None:
    for number in range(count):
        denied.note(IPv4Address(first + number), now)


def test_an_hour_is_counted_and_then_forgotten() -> None:
    denied = DeniedAddresses()
    for minute in range(90):
        denied.note(CLIENT, minute * 60.0)
    denied.note(ip_address("fd00::7"), 89 * 60.0)
    assert denied.most_denied(89 * 60.0, 10) == [
        DeniedAddress("10.31.4.9", 60, 89 * 60.0),
        DeniedAddress("fd00::7", 1, 89 * 60.0),
    ]
    assert denied.most_denied(89 * 60.0, 1)[0].address == "10.31.4.9"
    assert [one.denied for one in denied.most_denied(120 * 60.0, 10)] == [25, 1], "whole slices of five minutes"
    assert denied.most_denied(89 * 60.0 + 3601, 10) == []
    assert len(denied) == 0


def test_a_scan_does_not_displace_who_tries_again() -> None:
    denied = DeniedAddresses(addresses_max=100)
    denied.note(CLIENT, 0.0)
    denied.note(CLIENT, 1.0)
    scan(denied, 5_000, 2.0)
    assert len(denied) == 101
    assert denied.most_denied(3.0, 1) == [DeniedAddress("10.31.4.9", 2, 1.0)]
    denied.note(CLIENT, 4.0)
    assert denied.most_denied(5.0, 1)[0].denied == 3


def test_a_scan_that_comes_twice_is_bounded_too() -> None:
    denied = DeniedAddresses(addresses_max=50)
    for number in range(1000):
        for _ in range(2):
            denied.note(IPv4Address(2**31 + number), float(number))
    assert len(denied) <= 100
    assert denied.most_denied(1000.0, 1)[0].address == str(IPv4Address(2**31 + 999)), "the latest of the same count"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4000)), max_size=200))
def test_it_agrees_with_plain_counting_where_there_is_room(events: list[tuple[int, int]]) -> None:
    denied, now = DeniedAddresses(), 4000.0
    events.sort(key=lambda event: event[1])
    for number, second in events:
        denied.note(IPv4Address(number), float(second))
    whole = Counter(number for number, second in events if second // 300 > now // 300 - 12)
    last = {number: second for number, second in events}  # noqa: C416
    expected = {
        str(IPv4Address(number)): (max(1, whole[number]), float(second))
        for number, second in last.items()
        if second >= now - 3600
    }
    assert {one.address: (one.denied, one.last) for one in denied.most_denied(now, 100)} == expected
