"""One token bucket per address, for very many addresses. Pure.

All buckets are of one size, so a bucket is one number: when it will be full again. A full one is forgotten. Addresses
are kept by that time in slots, as on a wheel: those that have become full are dropped slot by slot, and at the table's
bound the one that is nearest to full gives way, without a search. So an attacker with many addresses displaces himself
and not the address that is being slowed.

An address is one address, also with IPv6: whole networks of honest clients share a /64.
"""

from __future__ import annotations

from typing import Final

from appliance.security.allowlist import Address
from appliance.security.token_bucket import LENT_SECONDS

ADDRESSES_MAX: Final = 16_384
_SLOTS: Final = 64


class AddressRates:
    """`per_second` events of one address, `burst` at once. Belongs to one thread; a decision takes about 1 µs.

    debt_max: so many events beyond the burst are counted too, which makes the next ones wait for longer.
    Times are seconds of one monotonic clock.
    """

    __slots__ = (
        "_addresses_max",
        "_burst",
        "_cost",
        "_debt",
        "_first",
        "_full_at",
        "_next_slot_at",
        "_slot_seconds",
        "_slots",
    )

    def __init__(self, per_second: float, burst: int, *, debt_max: int = 0, addresses_max: int = ADDRESSES_MAX) -> None:
        self._cost = 1 / per_second
        self._burst = burst / per_second
        self._debt = debt_max / per_second
        self._addresses_max = addresses_max
        self._slot_seconds = (self._burst + self._debt) / _SLOTS
        # packed address -> when its bucket is full; ipaddress objects would hash at five times the price.
        self._full_at: dict[bytes, float] = {}
        self._slots: dict[int, set[bytes]] = {}
        # No slot before this one has an entry.
        self._first = 0
        self._next_slot_at = 0.0

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._full_at)

    def take(self, address: Address, now: float) -> float:
        """Counts an event of `address`: 0 where it is within the rate, else in how many seconds it would have been."""
        key = address.packed
        before = self._full_at.get(key)
        after = (now if before is None or before < now else before) + self._cost
        wait = after - now - self._burst
        if wait > self._debt + LENT_SECONDS:
            return wait
        slot = int(after / self._slot_seconds)
        if before is None:
            if now >= self._next_slot_at or len(self._full_at) >= self._addresses_max:
                self._make_room(now)
            self._enter(slot, key)
        elif (old := int(before / self._slot_seconds)) != slot:
            self._slots[old].remove(key)
            self._enter(slot, key)
        self._full_at[key] = after
        return wait if wait > LENT_SECONDS else 0.0

    def _enter(self, slot: int, key: bytes) -> None:
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = {key}
        else:
            entries.add(key)
        if slot < self._first:
            self._first = slot

    def _make_room(self, now: float) -> None:
        """Forgets those of past slots, who are full; while there are still too many, who is nearest to it."""
        current = int(now / self._slot_seconds)
        if now >= self._next_slot_at:
            # Not number by number: the last event may have been days ago.
            for slot in [slot for slot in self._slots if slot < current]:
                for key in self._slots.pop(slot):
                    del self._full_at[key]
            self._first = current
            self._next_slot_at = (current + 1) * self._slot_seconds
        while len(self._full_at) >= self._addresses_max:
            while not (entries := self._slots.get(self._first)):
                self._slots.pop(self._first, None)
                self._first += 1
            del self._full_at[entries.pop()]
