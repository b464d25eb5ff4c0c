"""How a RequestRecord's values are stored, so that what compares them in SQL and in memory agrees. Pure.

Times and durations are whole microseconds. Addresses are bytes whose order is that of the addresses.
"""

from __future__ import annotations

import ipaddress
from typing import Final

# Of a stored address, its first byte.
_IPV4: Final = b"\x04"
_IPV6: Final = b"\x06"
_OTHER: Final = b"\xff"

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def micros(seconds: float) -> int:
    """Of a duration, or of a point in time since 1970."""
    return round(seconds * 1_000_000)


def seconds(stored: int) -> float:
    """The other way round."""
    return stored / 1_000_000


def packed_address(text: str) -> bytes:
    """What is no IP address is kept as its text. An IPv4 address is the same in IPv6's notation."""
    try:
        return packed_ip(ipaddress.ip_address(text))
    except ValueError:
        return _OTHER + text.encode(errors="replace")


def packed_ip(address: IpAddress) -> bytes:
    """The same of one that has been read; a scope does not count."""
    if isinstance(address, ipaddress.IPv4Address):
        return _IPV4 + address.packed
    mapped = address.ipv4_mapped
    return _IPV6 + address.packed if mapped is None else _IPV4 + mapped.packed


def unpacked_address(stored: bytes) -> str:
    """As people write it."""
    kind, value = stored[:1], stored[1:]
    if kind == _OTHER:
        return value.decode(errors="replace")
    return str(ipaddress.ip_address(value))


def packed_range(network: IpNetwork) -> tuple[bytes, bytes]:
    """The first and the last address of a network."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        first, last = network[0].ipv4_mapped, network[-1].ipv4_mapped
        if first is not None and last is not None:
            return packed_ip(first), packed_ip(last)
    return packed_ip(network[0]), packed_ip(network[-1])
