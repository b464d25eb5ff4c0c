"""Which addresses may connect, and until when. Pure.

Addresses are compared in one form: an IPv4 address that arrives as ::ffff:a.b.c.d is that IPv4 address, and an IPv6
scope (%eth0) is dropped. So `::/0` means IPv6 only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK: Final[tuple[Network, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
NEVER: Final = datetime.max.replace(tzinfo=UTC)

# ip_network would read the host mask 10.0.0.0/0.0.0.255 as a /24.
_ENTRY = re.compile(r"([^/]+)(?:/[0-9]{1,3})?")
_MAPPED_PREFIX_BITS = 96


def normalise(text: str) -> Address:
    """An address as the socket layer writes it, in the form the allowlist compares. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(frozen=True, slots=True)
class Rule:
    """A network that may connect until `until`. name: of the entry that it comes from."""

    network: Network
    until: datetime = NEVER
    name: str = ""

    @classmethod
    def parse(cls, entry: str, until: datetime | None = None, name: str = "") -> Rule:
        """Of `address` or `address/prefixlen`. until: None for one without an end. Raises ValueError."""
        return cls(_parse_entry(entry), NEVER if until is None else until, name)


@dataclass(frozen=True, slots=True)
class _Cover:
    """The narrowest rule for a range of addresses; `wider`: the one around it."""

    rule: Rule
    wider: _Cover | None


class Allowlist:
    """An immutable set of rules; a look-up is one binary search among ranges, then the rules around the range found.

    A rule counts before its `until`. Where none counts any more, or there never was one, loopback may connect if
    `or_loopback`.
    """

    __slots__ = ("_empty_from", "_v4", "_v6", "rules")

    def __init__(self, rules: Iterable[Rule], *, or_loopback: bool = False) -> None:
        self.rules = tuple(rules)
        self._v4 = _ranges(rule for rule in self.rules if rule.network.version == 4)
        self._v6 = _ranges(rule for rule in self.rules if rule.network.version == 6)
        last = max((rule.until for rule in self.rules), default=_ALWAYS)
        self._empty_from = last if or_loopback else NEVER

    @classmethod
    def parse(cls, entries: Sequence[str]) -> Allowlist:
        """Entries are `address` or `address/prefixlen`; none at all means loopback only. Raises ValueError."""
        return cls(map(Rule.parse, entries), or_loopback=True)

    @property
    def networks(self) -> tuple[Network, ...]:
        """Of its rules, those too that count no more; loopback where there is none."""
        return tuple(rule.network for rule in self.rules) or (LOOPBACK if self._empty_from < NEVER else ())

    def allows(self, address: Address, now: datetime) -> bool:
        """Whether a normalised address may connect now."""
        return self.admitting(address, now) is not None

    def admitting(self, address: Address, now: datetime) -> Rule | None:
        """The narrowest rule that lets a normalised address in now; of equal ones the last that was given."""
        cover = self._narrowest(address)
        while cover is not None:
            if now < cover.rule.until:
                return cover.rule
            cover = cover.wider
        if now >= self._empty_from:
            return next((rule for rule in _LOOPBACK_RULES if address in rule.network), None)
        return None

    def until(self, address: Address, now: datetime) -> datetime | None:
        """When an address that may connect now is shut out unless something changes; None where it may not connect."""
        rule = self.longest(address, now)
        return None if rule is None else rule.until

    def longest(self, address: Address, now: datetime) -> Rule | None:
        """Of the rules that let a normalised address in now the one that does so for longest; None without one."""
        longest, cover = self.admitting(address, now), self._narrowest(address)
        while cover is not None and longest is not None:
            longest, cover = max(longest, cover.rule, key=lambda rule: rule.until), cover.wider
        return longest

    def _narrowest(self, address: Address) -> _Cover | None:
        """Of the rules whose network has the address, ended ones too."""
        firsts, covers = self._v4 if address.version == 4 else self._v6
        at = bisect_right(firsts, int(address)) - 1
        return covers[at] if at >= 0 else None


_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)
_LOOPBACK_RULES: Final = tuple(map(Rule, LOOPBACK))


def _ranges(rules: Iterable[Rule]) -> tuple[list[int], list[_Cover | None]]:
    """(first numbers, what covers the addresses from there to the next one), ascending.

    Of two networks that touch one is within the other, so that those around an address are a stack.
    """
    firsts: list[int] = []
    covers: list[_Cover | None] = []
    around: list[tuple[int, _Cover]] = []

    def begin(first: int, cover: _Cover | None) -> None:
        if firsts and firsts[-1] == first:
            covers[-1] = cover
        else:
            firsts.append(first)
            covers.append(cover)

    def end(before: int | None) -> None:
        while around and (before is None or around[-1][0] < before):
            last, _ = around.pop()
            begin(last + 1, around[-1][1] if around else None)

    for rule in sorted(rules, key=lambda rule: (int(rule.network.network_address), rule.network.prefixlen)):
        first = int(rule.network.network_address)
        end(first)
        cover = _Cover(rule, around[-1][1] if around else None)
        begin(first, cover)
        around.append((int(rule.network.broadcast_address), cover))
    end(None)
    return firsts, covers


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
