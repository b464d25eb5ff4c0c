"""The requests of the last minutes in figures, of all models and of each, and what has failed lately. Pure.

Every record is counted when it comes and taken out when it is too old, so that asking costs the same however many there
are. Latencies are kept in order: with 30,000 of each kind a record takes 0.2 ms, and asking for percentiles nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, OrderedDict, deque
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.config import Telemetry
from appliance.telemetry.quantile import quantile
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import FailureFold, Percentiles, ServingFigures

WINDOW_SECONDS: Final = 300.0
RECORDS_MAX: Final = 60_000
MODELS_MAX: Final = 256
# An hour after the last of its kind a failure is no news any more.
FAILURE_SECONDS: Final = 3600.0
FAILURES_MAX: Final = 256
# So many of them are in a snapshot.
FAILURES_SHOWN: Final = 16


class _Ordered:
    """Numbers in ascending order."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: list[float] = []

    def add(self, value: float | None) -> None:
        if value is not None:
            insort(self._values, value)

    def remove(self, value: float | None) -> None:
        if value is not None:
            del self._values[bisect_left(self._values, value)]

    def percentiles(self) -> Percentiles:
        return Percentiles(p50=self._quantile(0.50), p95=self._quantile(0.95), p99=self._quantile(0.99))

    def _quantile(self, q: float) -> float | None:
        found = quantile(self._values, q)
        # Digits that say nothing would be most of what is recorded of a snapshot.
        return None if found is None else round(found, 6)


class _Counted(Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a record, to be taken out again. at: when it came. failed_models: those that it began with."""

    at: float
    model: str | None
    failed_models: tuple[str, ...]
    outcome: str
    rate_limited: bool
    finish: str | None
    good: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft: float | None
    token: float | None
    total: float | None
    queue: float | None


class _Sums:
    """Running sums of one model, or of all."""

    def __init__(self) -> None:
        self.requests = self.rate_limited = self.good = self.prompt = self.cached = self.completion = 0
        self.outcomes: Counter[str] = Counter()
        self.finish: Counter[str] = Counter()
        self.ttft, self.token, self.total, self.queue = _Ordered(), _Ordered(), _Ordered(), _Ordered()

    def add(self, one: _Counted) -> None:
        self._count(one, 1)
        self.ttft.add(one.ttft)
        self.token.add(one.token)
        self.total.add(one.total)
        self.queue.add(one.queue)

    def remove(self, one: _Counted) -> None:
        self._count(one, -1)
        self.ttft.remove(one.ttft)
        self.token.remove(one.token)
        self.total.remove(one.total)
        self.queue.remove(one.queue)

    def fail(self, change: int) -> None:
        """A request that another model had to answer in the place of this one."""
        self.requests += change
        self.outcomes["failed"] += change

    def figures(self, seconds: float) -> ServingFigures:
        # Right after the start a rate over less than a second would be a guess.
        span = max(seconds, 1.0)
        answers = self.outcomes["ok"] + self.outcomes["failed"]
        return ServingFigures(
            seconds=round(seconds, 1),
            requests=self.requests,
            ok=self.outcomes["ok"],
            refused=self.outcomes["refused"],
            rate_limited=self.rate_limited,
            failed=self.outcomes["failed"],
            client_gone=self.outcomes["client_gone"],
            ttft=self.ttft.percentiles(),
            token=self.token.percentiles(),
            total=self.total.percentiles(),
            queue=self.queue.percentiles(),
            requests_per_second=round(self.requests / span, 3),
            prompt_tokens_per_second=round(self.prompt / span, 1),
            completion_tokens_per_second=round(self.completion / span, 1),
            cached_share=round(self.cached / self.prompt, 4) if self.prompt else None,
            finish={reason: count for reason, count in sorted(self.finish.items()) if count},
            goodput=round(self.good / answers, 4) if answers else None,
        )

    def _count(self, one: _Counted, change: int) -> None:
        self.requests += change
        self.outcomes[one.outcome] += change
        self.rate_limited += change * one.rate_limited
        self.good += change * one.good
        self.prompt += change * one.prompt_tokens
        self.cached += change * one.cached_tokens
        self.completion += change * one.completion_tokens
        if one.finish is not None:
            self.finish[one.finish] += change


class ServingWindow:
    """The requests that ended in the last `seconds`. Belongs to the event loop.

    Its times are of a monotonic clock; `started` is when it began to count. Mirrored copies do not count: nobody got
    them. A model that failed, so that another one answered, has a failed request of its own.
    """

    def __init__(self, started: float, objectives: Telemetry, seconds: float = WINDOW_SECONDS) -> None:
        self.objectives = objectives
        self._whole_since = started
        self._seconds = seconds
        self._counted: deque[_Counted] = deque()
        self._all = _Sums()
        self._models: dict[str, _Sums] = {}

    def add(self, record: RequestRecord, now: float) -> None:
        """Counts a request that has just ended."""
        if record.mirrored:
            return
        # A model without sums of its own counts in those of all.
        model = record.model if record.model is not None and self._has_sums(record.model) else None
        failed = tuple(name for name in record.failed_models if self._has_sums(name))
        one = _counted(record, now, self.objectives, model, failed)
        self._counted.append(one)
        self._all.add(one)
        if model is not None:
            self._models[model].add(one)
        for name in failed:
            self._models[name].fail(1)
        self._forget(now)

    def figures(self, now: float) -> tuple[ServingFigures, dict[str, ServingFigures]]:
        """Of all requests, and by model of those that had any."""
        self._forget(now)
        seconds = min(self._seconds, now - self._whole_since)
        return self._all.figures(seconds), {model: sums.figures(seconds) for model, sums in self._models.items()}

    def _has_sums(self, model: str) -> bool:
        if model not in self._models and len(self._models) < MODELS_MAX:
            self._models[model] = _Sums()
        return model in self._models

    def _forget(self, now: float) -> None:
        while self._counted and (len(self._counted) > RECORDS_MAX or self._counted[0].at <= now - self._seconds):
            one = self._counted.popleft()
            self._whole_since = max(self._whole_since, one.at)
            self._all.remove(one)
            if one.model is not None:
                self._models[one.model].remove(one)
            for model in one.failed_models:
                self._models[model].fail(-1)
            for model in (*one.failed_models, *(() if one.model is None else (one.model,))):
                if model in self._models and not self._models[model].requests:
                    del self._models[model]


def _counted(
    record: RequestRecord, now: float, objectives: Telemetry, model: str | None, failed: tuple[str, ...]
) -> _Counted:
    token = record.token_seconds
    answered = record.model is not None and record.outcome in ("ok", "failed")
    return _Counted(
        at=now,
        model=model,
        failed_models=failed,
        outcome=record.outcome,
        rate_limited=record.status == 429,
        finish=record.finish_reason if record.outcome == "ok" else None,
        good=record.outcome == "ok"
        and (record.ttft_seconds is None or record.ttft_seconds <= objectives.slo_ttft_seconds)
        and (token is None or token <= objectives.slo_token_seconds),
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
        ttft=record.ttft_seconds,
        token=token,
        total=record.total_seconds if answered else None,
        queue=record.queue_seconds,
    )


class RecentFailures:
    """What failed or was refused lately, folded by who, model and error. Belongs to the event loop.

    The newest FAILURES_MAX kinds are kept, each until FAILURE_SECONDS after its last. Times are UTC since 1970.
    """

    def __init__(self) -> None:
        # Newest last.
        self._folds: OrderedDict[tuple[str, str | None, str], FailureFold] = OrderedDict()

    def add(self, record: RequestRecord) -> None:
        """Takes a request that has ended, whatever came of it."""
        if record.outcome not in ("failed", "refused") or record.mirrored:
            return
        error = record.error_code or str(record.status)
        key = (record.principal or record.address, record.model, error)
        time = record.time + record.total_seconds
        known = self._folds.pop(key, None)
        if known is None or time - known.time > FAILURE_SECONDS:
            known = _fold(record, time, error)
        else:
            known = replace(_fold(record, time, error), first=known.first, count=known.count + 1)
        self._folds[key] = known
        if len(self._folds) > FAILURES_MAX:
            self._folds.popitem(last=False)

    def newest(self, now: float, most: int = FAILURES_SHOWN) -> tuple[FailureFold, ...]:
        """Newest first."""
        recent = (fold for fold in reversed(self._folds.values()) if now - fold.time <= FAILURE_SECONDS)
        return tuple(fold for fold, _ in zip(recent, range(most), strict=False))


def _fold(record: RequestRecord, time: float, error: str) -> FailureFold:
    return FailureFold(
        time=time,
        first=time,
        count=1,
        status=record.status,
        error_code=error,
        address=record.address,
        request_id=record.id,
        model=record.model,
        principal=record.principal,
        key_id=record.key_id,
    )
