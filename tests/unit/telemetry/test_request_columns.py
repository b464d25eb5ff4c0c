"""appliance.telemetry.request_columns"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.request_columns import (
    micros,
    packed_address,
    packed_ip,
    packed_range,
    seconds,
    unpacked_address,
)


@pytest.mark.parametrize("text", ["10.0.0.1", "255.255.255.255", "::1", "fd00::7", "", "unix", "客"])
def test_an_address_comes_back(text: str) -> None:
    assert unpacked_address(packed_address(text)) == text


def test_ipv4_is_ipv4_in_either_notation() -> None:
    assert packed_address("::ffff:10.0.0.1") == packed_address("10.0.0.1")


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 32))
def test_a_range_holds_the_addresses_of_its_network(one: object, other: object, bits: int) -> None:
    assert isinstance(one, ipaddress.IPv4Address | ipaddress.IPv6Address)
    assert isinstance(other, ipaddress.IPv4Address | ipaddress.IPv6Address)
    network = ipaddress.ip_network(f"{one}/{bits}", strict=False)
    first, last = packed_range(network)
    for address in (one, other):
        if getattr(address, "ipv4_mapped", None) is None and network.network_address.version == address.version:
            assert (first <= packed_ip(address) <= last) == (address in network)


@given(st.integers(0, 2**52))
def test_microseconds_come_back(value: int) -> None:
    assert micros(seconds(value)) == value
