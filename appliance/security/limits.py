"""The limits of principals: requests and tokens per minute, tokens per day and month, requests at once. Pure.

A request is admitted or refused at its start. How many tokens its answer will have is not known then: an estimate is
reserved, and `settle` puts the true number in its place, as debt where it is more than there was. For the same reason
an estimate above the whole of a limit counts as the whole: such a request is admitted when the limit is untouched.

An admitted request counts as one request whatever becomes of it; a refused one costs nothing. Tokens count in the
day and month in which the request was admitted, UTC.
Times: `mono` in seconds of one monotonic clock, `wall` an aware datetime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Final

from appliance.access_config import PrincipalSettings
from appliance.security.period_sums import TokenSums
from appliance.security.principal_usage import LimitRefusal, PrincipalUsage
from appliance.security.rate_headers import rate_headers

# Twice what a configuration can name. Who was quiet for longest is forgotten beyond it.
PRINCIPALS_MAX: Final = 20_000
_SWEEP_MIN: Final = 64


class Admission:
    """One admitted request; ends once, with `settle` or `release`, whichever comes first.

    As a context manager it releases at the end of the block what was not settled.
    """

    __slots__ = (
        "_charged",
        "_day",
        "_ended",
        "_estimate",
        "_month",
        "_released",
        "_sums",
        "_usage",
        "requests",
        "tokens",
    )

    def __init__(
        self, usage: PrincipalUsage, estimate_tokens: int, mono: float, released: Callable[[str], None]
    ) -> None:
        """Reserves; the limits have been asked."""
        self._usage = usage
        self._estimate = estimate_tokens
        self._released = released
        self._ended = False
        # Those of this moment: the day may change.
        self._sums, self._day, self._month = usage.sums, usage.day, usage.month
        self._charged = 0.0
        if usage.requests is not None:
            usage.requests.charge(1, mono)
        if usage.tokens is not None:
            self._charged = min(estimate_tokens, usage.tokens.capacity)
            usage.tokens.charge(self._charged, mono)
        usage.running += 1
        self._count(estimate_tokens)
        self.requests = usage.requests_state()
        self.tokens = usage.tokens_state()

    def headers(self) -> dict[str, str]:
        """x-ratelimit-… as they were after the reservation."""
        return rate_headers(self.requests, self.tokens)

    def settle(self, actual_tokens: int, mono: float) -> None:
        """The request has ended and used `actual_tokens`, prompt and completion."""
        assert not self._ended, "a request ends once"
        bucket, more = self._usage.tokens, actual_tokens - self._charged
        if bucket is not None and more > 0:
            bucket.charge(more, mono)
        elif bucket is not None:
            bucket.put_back(-more)
        self._end(actual_tokens)

    def release(self) -> None:
        """The request has ended and used no tokens; does nothing after `settle`."""
        if not self._ended:
            if self._usage.tokens is not None:
                self._usage.tokens.put_back(self._charged)
            self._end(0)

    def __enter__(self) -> Admission:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _end(self, actual_tokens: int) -> None:
        self._ended = True
        self._usage.running -= 1
        self._count(actual_tokens - self._estimate)
        self._released(self._usage.principal)

    def _count(self, tokens: int) -> None:
        self._sums.days.add(self._day, tokens)
        self._sums.months.add(self._month, tokens)


class PrincipalLimits:
    """The limits of all principals. Belongs to one thread; `admit` with `settle` takes about 15 µs.

    A principal with nothing running and full buckets is forgotten, but for the sums of its day and month; those are of
    at most PRINCIPALS_MAX principals. Settings are taken as each call gives them: a bucket keeps its debt.
    released: called with the principal whenever a request of it has ended, and so more may be admitted.
    """

    def __init__(self) -> None:
        self.released: Callable[[str], None] = _nobody_waits
        self._usages: dict[str, PrincipalUsage] = {}
        # Least recently active first.
        self._sums: dict[str, TokenSums] = {}
        self._sweep_at = _SWEEP_MIN

    def admit(
        self, principal: str, settings: PrincipalSettings, estimate_tokens: int, mono: float, wall: datetime
    ) -> Admission | LimitRefusal:
        """Counts a request that runs from now on and reserves `estimate_tokens`, or says which limit refuses it."""
        usage = self._usage(principal, settings, mono, wall)
        return usage.refusal(estimate_tokens) or Admission(usage, estimate_tokens, mono, self.released)

    def check(
        self, principal: str, settings: PrincipalSettings, estimate_tokens: int, mono: float, wall: datetime
    ) -> LimitRefusal | None:
        """What `admit` would refuse with, without admitting."""
        return self._usage(principal, settings, mono, wall).refusal(estimate_tokens)

    def sums(self) -> dict[str, TokenSums]:
        """A snapshot of what was used by day and month, reservations included: for the file."""
        return {principal: sums.copy() for principal, sums in self._sums.items()}

    def restore(self, sums: Mapping[str, TokenSums]) -> None:
        """Goes on from what an earlier process had counted. To be called before the first `admit`."""
        assert not self._usages, "sums come before requests"
        self._sums = {principal: each.copy() for principal, each in sums.items()}

    def _usage(self, principal: str, settings: PrincipalSettings, mono: float, wall: datetime) -> PrincipalUsage:
        """The principal's state as of now."""
        usage = self._usages.get(principal)
        if usage is None:
            if len(self._usages) >= self._sweep_at:
                self._sweep(mono)
            usage = self._usages[principal] = PrincipalUsage(principal, self._touch(principal))
        elif next(reversed(self._sums)) != principal:
            self._touch(principal)
        usage.follow(settings, mono, wall)
        return usage

    def _touch(self, principal: str) -> TokenSums:
        """The sums of a principal, which becomes the most recently active one."""
        sums = self._sums.pop(principal, None) or TokenSums.none()
        self._sums[principal] = sums
        if len(self._sums) > PRINCIPALS_MAX:
            idle = next((name for name in self._sums if name != principal and name not in self._usages), None)
            if idle is not None:
                del self._sums[idle]
        return sums

    def _sweep(self, mono: float) -> None:
        """Each entry pays for its own sweep: the next one comes when there are twice as many."""
        self._usages = {name: usage for name, usage in self._usages.items() if not usage.idle(mono)}
        self._sweep_at = max(_SWEEP_MIN, 2 * len(self._usages))


def _nobody_waits(principal: str) -> None:
    """What is called where no queue is attached."""
