"""What one principal uses now, and which of its limits would refuse a request. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal

from appliance.access_config import PrincipalSettings
from appliance.errors import RequestError
from appliance.security.period_sums import TokenSums
from appliance.security.rate_headers import RateState, duration, rate_headers
from appliance.security.token_bucket import TokenBucket

LimitKind = Literal["requests_per_minute", "tokens_per_minute", "tokens_per_day", "tokens_per_month", "concurrent"]

# Nobody knows when a running request ends.
CONCURRENT_WAIT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class LimitRefusal:
    """Why a request is not admitted: of the limits that refuse it, the one that will for longest.

    wait_seconds: until it could be admitted, if nobody else uses anything (a guess for `concurrent`).
    message: for the client.
    """

    principal: str
    kind: LimitKind
    limit: int
    wait_seconds: float
    message: str
    requests: RateState | None
    tokens: RateState | None

    @property
    def retry_after(self) -> int:
        """Whole seconds for Retry-After, at least 1."""
        return max(1, math.ceil(self.wait_seconds))

    def headers(self) -> dict[str, str]:
        """x-ratelimit-… and retry-after."""
        return rate_headers(self.requests, self.tokens) | {"retry-after": str(self.retry_after)}

    def error(self) -> RequestError:
        """The refusal as a 429."""
        return RequestError(
            "too_many_requests", self.message, retry_after=self.retry_after, details={"limit": self.kind}
        )


class PrincipalUsage:
    """Buckets, running requests and sums of one principal, as of the last `follow`.

    `follow` comes before every question. day, month: the periods that usage of now counts in.
    """

    __slots__ = ("_mono", "_settings", "_wall", "day", "month", "principal", "requests", "running", "sums", "tokens")

    def __init__(self, principal: str, sums: TokenSums) -> None:
        self.principal = principal
        self.sums = sums
        self.running = 0
        self.requests: TokenBucket | None = None
        self.tokens: TokenBucket | None = None

    def follow(self, settings: PrincipalSettings, mono: float, wall: datetime) -> None:
        """Brings everything to this moment and to these settings."""
        self._settings, self._mono, self._wall = settings, mono, wall
        today = day_of(wall)
        self.day = self.sums.days.counted_in(today)
        self.month = self.sums.months.counted_in(month_of(today))
        self.requests = _follow(self.requests, settings.requests_per_minute, mono)
        self.tokens = _follow(self.tokens, settings.tokens_per_minute, mono)

    def idle(self, mono: float) -> bool:
        """Whether nothing runs and the buckets are full: nothing here but the sums is worth keeping."""
        buckets = (self.requests, self.tokens)
        return self.running == 0 and all(bucket is None or bucket.full_in(mono) <= 0 for bucket in buckets)

    def refusal(self, estimate_tokens: int) -> LimitRefusal | None:
        """The refusal of a request now, None where every limit lets it pass."""
        refusing = list(self._refusing(estimate_tokens))
        if not refusing:
            return None
        wait, kind, limit = max(refusing, key=lambda each: each[0])
        return LimitRefusal(
            principal=self.principal,
            kind=kind,
            limit=limit,
            wait_seconds=wait,
            message=self._sentence(kind, limit, estimate_tokens, wait),
            requests=self.requests_state(),
            tokens=self.tokens_state(),
        )

    def requests_state(self) -> RateState | None:
        """What is left of the requests per minute."""
        return None if self._settings.requests_per_minute is None else _bucket_state(self.requests, self._mono)

    def tokens_state(self) -> RateState | None:
        """What is left of the limit of tokens; of several, of that with the shortest time."""
        if self._settings.tokens_per_minute is not None:
            return _bucket_state(self.tokens, self._mono)
        if (limit := self._settings.tokens_per_day) is not None:
            return RateState(limit, self._left_of_day(limit), self._seconds_until(_next_day(self.day)))
        if (limit := self._settings.tokens_per_month) is not None:
            return RateState(limit, self._left_of_month(limit), self._seconds_until(_next_month(self.month)))
        return None

    def _refusing(self, estimate: int) -> Iterator[tuple[float, LimitKind, int]]:
        """(seconds, kind, limit) of each limit that refuses; the longer period first, should seconds be equal."""
        settings = self._settings
        if (limit := settings.tokens_per_month) is not None and min(estimate, limit) > self._left_of_month(limit):
            yield self._seconds_until(_next_month(self.month)), "tokens_per_month", limit
        if (limit := settings.tokens_per_day) is not None and min(estimate, limit) > self._left_of_day(limit):
            yield self._seconds_until(_next_day(self.day)), "tokens_per_day", limit
        if (limit := settings.tokens_per_minute) is not None:
            assert self.tokens is not None
            if (wait := self.tokens.wait_seconds(min(estimate, limit), self._mono)) > 0:
                yield wait, "tokens_per_minute", limit
        if (limit := settings.requests_per_minute) is not None:
            assert self.requests is not None
            if (wait := self.requests.wait_seconds(1, self._mono)) > 0:
                yield wait, "requests_per_minute", limit
        if (limit := settings.concurrent_max) is not None and self.running >= limit:
            yield CONCURRENT_WAIT_SECONDS, "concurrent", limit

    def _left_of_day(self, limit: int) -> int:
        return max(0, limit - self.sums.days.total(self.day))

    def _left_of_month(self, limit: int) -> int:
        return max(0, limit - self.sums.months.total(self.month))

    def _seconds_until(self, day: date) -> float:
        return (datetime.combine(day, time(), UTC) - self._wall).total_seconds()

    def _sentence(self, kind: LimitKind, limit: int, estimate: int, wait: float) -> str:
        needs = f"The request may use {estimate} tokens, and"
        if kind == "concurrent":
            return f"{self.running} requests are running, and {limit} may at once. Try again when one has ended."
        if kind == "requests_per_minute":
            return f"The limit of {limit} requests per minute is reached. Try again in {duration(wait)}."
        if kind == "tokens_per_minute":
            assert self.tokens is not None
            left = max(0, math.floor(self.tokens.level(self._mono)))
            return f"{needs} {left} of {limit} per minute are left. Try again in {duration(wait)}."
        if kind == "tokens_per_day":
            left, again = self._left_of_day(limit), _next_day(self.day)
            return f"{needs} {left} of {limit} per day are left. The next day begins at {again} 00:00 UTC."
        left, again = self._left_of_month(limit), _next_month(self.month)
        return f"{needs} {left} of {limit} per month are left. The next month begins at {again} 00:00 UTC."


def day_of(wall: datetime) -> date:
    """The calendar day, UTC."""
    assert wall.tzinfo is not None, "a day is a day in UTC"
    return wall.astimezone(UTC).date()


def month_of(day: date) -> date:
    """The first day of its month."""
    return day.replace(day=1)


def _next_day(day: date) -> date:
    return day + timedelta(days=1)


def _next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _follow(bucket: TokenBucket | None, per_minute: int | None, mono: float) -> TokenBucket | None:
    """The bucket under the limit of now. One whose limit is lifted stays: the limit may come back, and so its debt."""
    if per_minute is None:
        return bucket
    if bucket is None:
        return TokenBucket(per_minute, per_minute / 60)
    if bucket.capacity != per_minute:
        bucket.resize(per_minute, per_minute / 60, mono)
    return bucket


def _bucket_state(bucket: TokenBucket | None, mono: float) -> RateState:
    assert bucket is not None
    return RateState(int(bucket.capacity), max(0, math.floor(bucket.level(mono))), bucket.full_in(mono))
