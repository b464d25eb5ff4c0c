"""A token bucket: what may be spent at once, and how fast it comes back. Pure.

Times are seconds of one monotonic clock. A time before the last one seen adds nothing and takes nothing away.
"""

from __future__ import annotations

import math
from typing import Final

# A microsecond's refill is lent, so that who waits exactly as long as he was told is not sent away over a rounding.
LENT_SECONDS: Final = 1e-6


class TokenBucket:
    """Starts full. Belongs to one thread."""

    __slots__ = ("_at", "_level", "capacity", "per_second")

    def __init__(self, capacity: float, per_second: float) -> None:
        assert capacity > 0, "a bucket holds something"
        assert per_second > 0, "a bucket fills up"
        self.capacity = capacity
        self.per_second = per_second
        self._level = capacity
        self._at = -math.inf

    def level(self, now: float) -> float:
        """What may be spent; negative is debt."""
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.per_second)
            self._at = now
        return self._level

    def wait_seconds(self, amount: float, now: float) -> float:
        """How long until `amount`, at most the capacity, can be taken."""
        assert 0 <= amount <= self.capacity, "more than the bucket can ever hold"
        missing = (amount - self.level(now)) / self.per_second
        return missing if missing > LENT_SECONDS else 0.0

    def take(self, amount: float, now: float) -> float:
        """Takes all of `amount` and returns 0, or takes nothing and returns how long until that is possible."""
        wait = self.wait_seconds(amount, now)
        if wait == 0:
            self._level -= amount
        return wait

    def put_back(self, amount: float) -> None:
        """Undoes a part of what was taken. Needs no time: with the refill since, it adds up to the same level."""
        assert amount >= 0, "what is put back was taken"
        self._level = min(self.capacity, self._level + amount)

    def charge(self, amount: float, now: float) -> None:
        """Takes `amount` whether it is there or not; what is missing is debt that the refill pays first."""
        assert amount >= 0, "a charge costs"
        self._level = self.level(now) - amount

    def full_in(self, now: float) -> float:
        """Seconds until it is full."""
        return (self.capacity - self.level(now)) / self.per_second

    def resize(self, capacity: float, per_second: float, now: float) -> None:
        """Other limits from now on: a full bucket stays full, any other keeps what it holds or owes."""
        level = self.level(now)
        self._level = capacity if level >= self.capacity else min(level, capacity)
        self.capacity = capacity
        self.per_second = per_second
