"""appliance.security.allowlist"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.allowlist import Allowlist, Network, normalise

V4_NETWORKS = st.tuples(st.ip_addresses(v=4), st.integers(0, 32))
V6_NETWORKS = st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
NETWORKS = (V4_NETWORKS | V6_NETWORKS).map(lambda pair: ip_network((pair[0], pair[1]), strict=False))


@given(st.lists(NETWORKS, min_size=1, max_size=20), st.ip_addresses())
def test_allows_is_membership_in_one_of_the_networks(
    networks: list[Network], address: IPv4Address | IPv6Address
) -> None:
    address = normalise(str(address))
    # ::ffff:0:0/96 and longer are IPv4 networks here; a property of its own.
    networks = [n for n in networks if n.version == 4 or int(n.network_address) >> 32 != 0xFFFF]
    if networks:
        expected = any(address in network for network in networks)
        assert Allowlist.parse([str(network) for network in networks]).allows(address) == expected


@given(st.lists(NETWORKS, min_size=1, max_size=20), st.data())
def test_first_and_last_address_of_a_network_are_in_and_their_neighbours_decided_alike(
    networks: list[Network], data: st.DataObject
) -> None:
    network = data.draw(st.sampled_from(networks))
    allowlist = Allowlist(networks)
    for edge in (int(network.network_address), int(network.broadcast_address)):
        for number in {max(edge - 1, 0), edge, min(edge + 1, 2**network.max_prefixlen - 1)}:
            address = type(network.network_address)(number)
            assert allowlist.allows(address) == any(address in other for other in networks)


@given(V4_NETWORKS, st.ip_addresses(v=4))
def test_a_mapped_network_is_its_ipv4_network(pair: tuple[IPv4Address, int], address: IPv4Address) -> None:
    network = ip_network((pair[0], pair[1]), strict=False)
    mapped = Allowlist.parse([f"::ffff:{network.network_address}/{96 + network.prefixlen}"])
    assert mapped.allows(normalise(f"::ffff:{address}")) == (address in network)


def test_an_empty_list_is_loopback_only() -> None:
    allowlist = Allowlist.parse([])
    assert allowlist.allows(ip_address("127.0.0.1"))
    assert allowlist.allows(ip_address("127.255.1.2"))
    assert allowlist.allows(ip_address("::1"))
    assert allowlist.allows(normalise("::ffff:127.0.0.1"))
    for stranger in ("128.0.0.1", "10.0.0.1", "::2", "fe80::1"):
        assert not allowlist.allows(ip_address(stranger))


def test_a_list_that_is_not_empty_does_not_add_loopback() -> None:
    assert not Allowlist.parse(["10.0.0.0/8"]).allows(ip_address("127.0.0.1"))


def test_a_single_address_is_itself_alone() -> None:
    allowlist = Allowlist.parse(["10.0.0.5", "2001:db8::1"])
    assert allowlist.allows(ip_address("10.0.0.5"))
    assert not allowlist.allows(ip_address("10.0.0.4"))
    assert allowlist.allows(ip_address("2001:db8::1"))
    assert not allowlist.allows(ip_address("2001:db8::"))


def test_all_of_ipv6_is_not_ipv4() -> None:
    assert not Allowlist.parse(["::/0"]).allows(normalise("::ffff:10.0.0.1"))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("10.0.0.5/8", "has host bits set; did you mean 10.0.0.0/8 or 10.0.0.5"),
        ("::ffff:10.0.0.5/104", "has host bits set"),
        ("10.0.0.0/0.0.0.255", "prefix length"),
        ("10.0.0.0/255.0.0.0", "prefix length"),
        ("10.0.0.0/33", "no address and no network"),
        ("10.0.0.0/-1", "prefix length"),
        ("10.0.0.0/", "prefix length"),
        ("10.0.0.0/8/8", "prefix length"),
        ("10.0.0.0/٨", "prefix length"),
        ("010.0.0.1", "no address and no network"),
        ("10.0.0", "no address and no network"),
        (" 10.0.0.1", "no address and no network"),
        ("10.0.0.1\n", "no address and no network"),
        ("fe80::1%eth0", "scope"),
        ("host.example", "no address and no network"),
        ("*", "no address and no network"),
        ("", "prefix length"),
    ],
)
def test_anything_else_is_refused_with_the_entry_and_the_reason(entry: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Allowlist.parse(["10.0.0.0/8", entry])
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("::ffff:10.1.2.3", IPv4Address("10.1.2.3")),
        ("fe80::1%eth0", IPv6Address("fe80::1")),
        ("::ffff:10.1.2.3%eth0", IPv4Address("10.1.2.3")),
        ("10.1.2.3", IPv4Address("10.1.2.3")),
        ("2001:db8::1", IPv6Address("2001:db8::1")),
    ],
)
def test_normalise(text: str, address: IPv4Address | IPv6Address) -> None:
    assert normalise(text) == address


@given(st.text(max_size=40))
def test_parse_and_normalise_raise_nothing_but_value_error(text: str) -> None:
    for function in (normalise, lambda entry: Allowlist.parse([entry])):
        try:
            function(text)
        except ValueError:
            continue
