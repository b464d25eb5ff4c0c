"""Tokens used per calendar day, or per month, such that no period's quota is ever given twice. Pure.

A clock may be set back, or be far ahead for a while. So a sum is never reset: each period that was used has its own,
and the last few are kept. Usage in a period whose sum is no longer kept counts in the next later one that is.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from msgspec import Struct

PERIODS_KEPT: Final = 4


class PeriodSums(Struct, kw_only=True, forbid_unknown_fields=True):
    """Sums by the first day of their period, UTC. dropped: the latest period whose sum was dropped."""

    used: dict[date, int] = {}
    dropped: date | None = None

    def __post_init__(self) -> None:
        """What a file says is checked; ValueError."""
        if min(self.used.values(), default=0) < 0:
            raise ValueError("a sum is negative")
        if len(self.used) > PERIODS_KEPT:
            raise ValueError("too many periods")
        if self.dropped is not None and self.dropped >= max(self.used, default=date.min):
            raise ValueError("no period is kept after the one that was dropped")

    def counted_in(self, period: date) -> date:
        """The period that usage in `period` counts in: itself or, where its sum was dropped, a later one."""
        used = self.used
        if period in used or not used:
            return period
        unknown = self.dropped is not None and period <= self.dropped
        if unknown or (len(used) == PERIODS_KEPT and period < min(used)):
            return min(later for later in used if later > period)
        return period

    def total(self, period: date) -> int:
        """Tokens counted in exactly this period."""
        return self.used.get(period, 0)

    def add(self, period: date, tokens: int) -> None:
        """`period` comes from `counted_in`; `tokens` may take back what was added. A dropped period stays dropped."""
        sum_so_far = self.used.get(period)
        if sum_so_far is not None:
            self.used[period] = sum_so_far + tokens
        elif self.dropped is None or period > self.dropped:
            self.used[period] = tokens
            if len(self.used) > PERIODS_KEPT:
                self.dropped = min(self.used)
                del self.used[self.dropped]

    def copy(self) -> PeriodSums:
        """A snapshot that later additions do not change."""
        return PeriodSums(used=dict(self.used), dropped=self.dropped)


class TokenSums(Struct, kw_only=True, forbid_unknown_fields=True):
    """What one principal has used, by day and by month."""

    days: PeriodSums
    months: PeriodSums

    @classmethod
    def none(cls) -> TokenSums:
        """Nothing used yet."""
        return cls(days=PeriodSums(), months=PeriodSums())

    def copy(self) -> TokenSums:
        """A snapshot that later additions do not change."""
        return TokenSums(days=self.days.copy(), months=self.months.copy())
