"""Which addresses may connect. Pure.

Addresses are compared in one form: an IPv4 address that arrives as ::ffff:a.b.c.d is that IPv4 address, and an IPv6
scope (%eth0) is dropped. So `::/0` means IPv6 only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK: Final[tuple[Network, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

# ip_network would read the host mask 10.0.0.0/0.0.0.255 as a /24.
_ENTRY = re.compile(r"([^/]+)(?:/[0-9]{1,3})?")
_MAPPED_PREFIX_BITS = 96


def normalise(text: str) -> Address:
    """An address as the socket layer writes it, in the form the allowlist compares. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Allowlist:
    """An immutable set of networks; a look-up is one binary search among ranges that do not touch."""

    __slots__ = ("_v4", "_v6", "networks")

    def __init__(self, networks: Iterable[Network]) -> None:
        self.networks = tuple(networks)
        self._v4 = _ranges(network for network in self.networks if network.version == 4)
        self._v6 = _ranges(network for network in self.networks if network.version == 6)

    @classmethod
    def parse(cls, entries: Sequence[str]) -> Allowlist:
        """Entries are `address` or `address/prefixlen`; none at all means loopback only. Raises ValueError."""
        return cls([_parse_entry(entry) for entry in entries] or LOOPBACK)

    def allows(self, address: Address) -> bool:
        """Whether a normalised address is in one of the networks."""
        number = int(address)
        firsts, lasts = self._v4 if address.version == 4 else self._v6
        at = bisect_right(firsts, number) - 1
        return at >= 0 and number <= lasts[at]


def _ranges(networks: Iterable[Network]) -> tuple[list[int], list[int]]:
    """(first numbers, last numbers) of the ranges that the networks cover together, ascending."""
    firsts: list[int] = []
    lasts: list[int] = []
    for first, last in sorted((int(one.network_address), int(one.broadcast_address)) for one in networks):
        if lasts and first <= lasts[-1] + 1:
            lasts[-1] = max(lasts[-1], last)
        else:
            firsts.append(first)
            lasts.append(last)
    return firsts, lasts


def _parse_entry(entry: str) -> Network:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise _refusal(entry, "write an address or address/prefix length, such as 10.1.0.0/16")
    if "%" in entry:
        raise _refusal(entry, "an address here has no %scope")
    try:
        network = ip_network(entry, strict=False)
    except ValueError as error:
        raise _refusal(entry, "is no address and no network") from error
    if "/" in entry and ip_address(match[1]) != network.network_address:
        raise _refusal(entry, f"has host bits set; did you mean {network} or {match[1]}?")
    if isinstance(network, IPv6Network):
        base = network.network_address.ipv4_mapped
        if base is not None and network.prefixlen >= _MAPPED_PREFIX_BITS:
            return IPv4Network((base, network.prefixlen - _MAPPED_PREFIX_BITS))
    return network


def _refusal(entry: str, why: str) -> ValueError:
    return ValueError(f"{entry!r}: {why}")
