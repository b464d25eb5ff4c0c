"""Which addresses the allowlist has turned away in the last hour, and how often: for very many addresses. Pure.

An operator looks here for the client that is refused though it should not be, and such a one tries again. So an address
that came once must not displace one that came twice: those of one denial and those of several are in two tables, each
of which forgets who was quiet for longest. A scan of millions of addresses goes through the first one alone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from appliance.security.allowlist import Address

WINDOW_SECONDS: Final = 3600
# Of each of the two tables.
ADDRESSES_MAX: Final = 2048
_SLICES: Final = 12
_SLICE_SECONDS: Final = WINDOW_SECONDS // _SLICES


@dataclass(frozen=True, slots=True)
class DeniedAddress:
    """denied: in the last hour, to within five minutes. last: seconds of the clock of `DeniedAddresses`."""

    address: str
    denied: int
    last: float


@dataclass(slots=True)
class _Entry:
    """times: of each slice of the window, by its number modulo _SLICES; `slice` is the newest one."""

    address: Address
    slice: int
    last: float
    times: list[int] = field(default_factory=lambda: [0] * _SLICES)

    def add(self, now: float) -> None:
        self.move_to(int(now // _SLICE_SECONDS))
        self.times[self.slice % _SLICES] += 1
        self.last = now

    def move_to(self, slice_: int) -> None:
        """Forgets the slices that have left the window."""
        for passed in range(self.slice + 1, min(slice_, self.slice + _SLICES) + 1):
            self.times[passed % _SLICES] = 0
        self.slice = max(self.slice, slice_)


class DeniedAddresses:
    """Belongs to one thread. A note takes 2 to 4 µs, and all of it at most some 2 MB. Times are seconds of one clock
    that only grows."""

    def __init__(self, addresses_max: int = ADDRESSES_MAX) -> None:
        self._addresses_max = addresses_max
        # By packed address, the one that was denied last at the end.
        self._once: OrderedDict[bytes, _Entry] = OrderedDict()
        self._often: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._once) + len(self._often)

    def note(self, address: Address, now: float) -> None:
        """A connection of this address was turned away."""
        key = address.packed
        table, entry = self._often, self._often.pop(key, None)
        if entry is None and (entry := self._once.pop(key, None)) is None:
            table, entry = self._once, _Entry(address, int(now // _SLICE_SECONDS), now)
        entry.add(now)
        if len(table) >= self._addresses_max:
            table.popitem(last=False)
        table[key] = entry

    def most_denied(self, now: float, limit: int) -> list[DeniedAddress]:
        """Those of the last hour, most denials first and then the latest; at most `limit`. Forgets older ones."""
        found = []
        for table in (self._often, self._once):
            while table and next(iter(table.values())).last < now - WINDOW_SECONDS:
                table.popitem(last=False)
            for entry in table.values():
                entry.move_to(int(now // _SLICE_SECONDS))
                found.append(DeniedAddress(str(entry.address), max(1, sum(entry.times)), entry.last))
        found.sort(key=lambda one: (-one.denied, -one.last))
        return found[:limit]
