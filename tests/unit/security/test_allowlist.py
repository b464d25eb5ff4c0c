"""appliance.security.allowlist"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.allowlist import NEVER, Address, Allowlist, Network, Rule, normalise

NOW = datetime(2026, 11, 26, tzinfo=UTC)
HOUR = timedelta(hours=1)
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
        assert Allowlist.parse([str(network) for network in networks]).allows(address, NOW) == expected


@given(st.lists(NETWORKS, min_size=1, max_size=20), st.data())
def test_first_and_last_address_of_a_network_are_in_and_their_neighbours_decided_alike(
    networks: list[Network], data: st.DataObject
) -> None:
    network = data.draw(st.sampled_from(networks))
    allowlist = Allowlist(map(Rule, networks))
    for edge in (int(network.network_address), int(network.broadcast_address)):
        for number in {max(edge - 1, 0), edge, min(edge + 1, 2**network.max_prefixlen - 1)}:
            address = type(network.network_address)(number)
            assert allowlist.allows(address, NOW) == any(address in other for other in networks)


@given(V4_NETWORKS, st.ip_addresses(v=4))
def test_a_mapped_network_is_its_ipv4_network(pair: tuple[IPv4Address, int], address: IPv4Address) -> None:
    network = ip_network((pair[0], pair[1]), strict=False)
    mapped = Allowlist.parse([f"::ffff:{network.network_address}/{96 + network.prefixlen}"])
    assert mapped.allows(normalise(f"::ffff:{address}"), NOW) == (address in network)


def test_an_empty_list_is_loopback_only() -> None:
    allowlist = Allowlist.parse([])
    assert allowlist.allows(ip_address("127.0.0.1"), NOW)
    assert allowlist.allows(ip_address("127.255.1.2"), NOW)
    assert allowlist.allows(ip_address("::1"), NOW)
    assert allowlist.allows(normalise("::ffff:127.0.0.1"), NOW)
    for stranger in ("128.0.0.1", "10.0.0.1", "::2", "fe80::1"):
        assert not allowlist.allows(ip_address(stranger), NOW)


def test_a_list_that_is_not_empty_does_not_add_loopback() -> None:
    assert not Allowlist.parse(["10.0.0.0/8"]).allows(ip_address("127.0.0.1"), NOW)


def test_a_single_address_is_itself_alone() -> None:
    allowlist = Allowlist.parse(["10.0.0.5", "2001:db8::1"])
    assert allowlist.allows(ip_address("10.0.0.5"), NOW)
    assert not allowlist.allows(ip_address("10.0.0.4"), NOW)
    assert allowlist.allows(ip_address("2001:db8::1"), NOW)
    assert not allowlist.allows(ip_address("2001:db8::"), NOW)


def test_all_of_ipv6_is_not_ipv4() -> None:
    assert not Allowlist.parse(["::/0"]).allows(normalise("::ffff:10.0.0.1"), NOW)


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


# Ends.

# Close to each other, so that networks lie within others and addresses within networks.
NEAR = st.builds(
    lambda bits, prefix: ip_network((0x0A000000 + bits, prefix), strict=False), st.integers(0, 31), st.integers(26, 32)
)
ENDING = st.lists(st.builds(Rule, NEAR, st.sampled_from([NOW - HOUR, NOW, NOW + HOUR, NEVER])), max_size=8)


@given(ENDING, st.integers(0, 40), st.sampled_from([NOW - 2 * HOUR, NOW, NOW + HOUR]))
def test_the_narrowest_rule_that_has_not_ended_admits(rules: list[Rule], number: int, now: datetime) -> None:
    address = IPv4Address(0x0A000000 + number)
    allowlist = Allowlist(rules)
    good = [rule for rule in rules if address in rule.network and now < rule.until]
    admitting = allowlist.admitting(address, now)
    assert allowlist.allows(address, now) == bool(good)
    assert allowlist.until(address, now) == max((rule.until for rule in good), default=None)
    if admitting is None:
        assert not good
    else:
        narrowest = max(rule.network.prefixlen for rule in good)
        assert admitting == [rule for rule in good if rule.network.prefixlen == narrowest][-1]


def test_an_end_is_the_first_moment_that_does_not_count() -> None:
    allowlist, address = Allowlist([Rule.parse("10.0.0.0/8", NOW)]), ip_address("10.1.1.1")
    assert allowlist.allows(address, NOW - timedelta(microseconds=1))
    assert not allowlist.allows(address, NOW)


def test_a_list_whose_entries_have_all_ended_is_an_empty_one() -> None:
    here: Address = ip_address("127.0.0.1")
    rules = [Rule.parse("10.0.0.0/8", NOW), Rule.parse("192.0.2.0/24", NOW + HOUR)]
    allowlist = Allowlist(rules, or_loopback=True)
    assert not allowlist.allows(here, NOW), "one still counts"
    assert allowlist.until(here, NOW) is None
    assert allowlist.allows(here, NOW + HOUR)
    assert allowlist.until(here, NOW + HOUR) == NEVER
    assert not allowlist.allows(ip_address("10.1.1.1"), NOW + HOUR)
    assert not Allowlist(rules).allows(here, NOW + HOUR)
    assert not Allowlist(()).allows(here, NOW)
