"""Which inputs the next step computes: those of all requests together, in the order of `FairQueue`.

Pure: no clock, no llama.cpp. A step takes inputs until the next one does not fit; the first one always does. Principals
take turns input by input, so that a request with two thousand texts delays nobody by more than a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Final

from appliance.engine.fair_queue import PROMPT_TOKEN, FairQueue
from appliance.engine.pooling.job import PoolingJob
from appliance.engine.pooling.vector_cache import VectorCache
from appliance.engine.pooling.vectors import Vector, shortened, to_bytes
from appliance.wire import Event, Failed, Finished, Pooled, Started

# Vectors that are known already go out so many at a time: a frame has its limit.
_EVENTS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class PoolingLimits:
    """n_ctx: tokens of one input. step_tokens: of several together. sequences: inputs of one step."""

    n_ctx: int
    step_tokens: int
    sequences: int


@dataclass(frozen=True, slots=True)
class PoolingItem:
    """One input of a step."""

    job: PoolingJob
    index: int

    @property
    def tokens(self) -> list[int]:
        """What is computed."""
        return self.job.inputs[self.index].tokens


@dataclass(frozen=True, slots=True)
class PoolingPlan:
    """The events go out, then the items run as one batch; a plan without items needs no step."""

    events: tuple[Event, ...]
    items: tuple[PoolingItem, ...]

    @property
    def tokens(self) -> int:
        """Size of the batch."""
        return sum(len(item.tokens) for item in self.items)


class PoolingScheduler:
    """Belongs to the engine thread. A step is `schedule`, then `commit`; the others come in between."""

    def __init__(self, limits: PoolingLimits, cache: VectorCache) -> None:
        self._limits = limits
        self._cache = cache
        self._queue = FairQueue[PoolingJob]()
        # Jobs all of whose inputs are planned.
        self._finishing: dict[int, PoolingJob] = {}

    @property
    def has_work(self) -> bool:
        """Whether a request is not done."""
        return bool(len(self._queue) or self._finishing)

    @property
    def running(self) -> int:
        """Requests that have begun."""
        return len(self._finishing) + sum(job.started is not None for job in self._queue)

    @property
    def waiting(self) -> int:
        """Requests that have not."""
        return sum(job.started is None for job in self._queue)

    def add(self, job: PoolingJob) -> None:
        """A new request."""
        self._queue.arrive(job)

    def abort(self, number: int) -> Failed | None:
        """Ends a request between two steps; None where it has ended."""
        job = self._queue.find(number)
        return None if job is None else self._fail(job, Failed(number=number, code=None, message="aborted"))

    def schedule(self, now: float) -> PoolingPlan:
        """The next step."""
        events: list[Event] = [self._expire(job) for job in list(self._queue) if now >= job.deadline]
        items: list[PoolingItem] = []
        room = self._limits.step_tokens
        while len(items) < self._limits.sequences and len(events) < _EVENTS_MAX:
            job = next(self._queue.in_order(), None)
            if job is None:
                break
            tokens = job.inputs[job.planned].tokens
            known = self._cache.find(job.cache_domain, tokens)
            if known is None and items and len(tokens) > room:
                break
            if job.started is None:
                job.started = now
                events.append(Started(number=job.number, prompt_tokens=job.tokens, cached_tokens=0))
            index = self._plan_next(job)
            if known is not None:
                job.cached += len(tokens)
                events += self._deliver(job, index, known, now)
                continue
            self._queue.charge(job, PROMPT_TOKEN * len(tokens))
            items.append(PoolingItem(job, index))
            room -= len(tokens)
        return PoolingPlan(tuple(events), tuple(items))

    def commit(self, plan: PoolingPlan, vectors: Items[Vector | None], now: float) -> list[Event]:
        """What comes of a step: a vector for each of its items, None where the model computed no numbers."""
        events: list[Event] = []
        for item, vector in zip(plan.items, vectors, strict=True):
            if vector is not None:
                self._cache.keep(item.job.cache_domain, item.tokens, vector)
            events += self._deliver(item.job, item.index, vector, now)
        return events

    def check_integrity(self) -> None:
        """Raises AssertionError unless nothing is left of requests that have ended. For a moment without work."""
        assert not self._finishing, "requests outlive their inputs"

    def _plan_next(self, job: PoolingJob) -> int:
        index = job.planned
        job.planned += 1
        if job.planned == len(job.inputs):
            self._queue.take(job)
            self._finishing[job.number] = job
        return index

    def _deliver(self, job: PoolingJob, index: int, vector: Vector | None, now: float) -> Iterator[Event]:
        if job.number not in self._finishing and self._queue.find(job.number) is None:
            return  # another input of it has failed
        out = None if vector is None else shortened(vector, job.dimensions)
        if out is None:
            message = f"input {index}: the model computes no numbers of it; its weights may be damaged"
            yield self._fail(job, Failed(number=job.number, code="internal_error", message=message))
            return
        given = job.inputs[index]
        yield Pooled(
            number=job.number,
            index=index,
            tokens=len(given.tokens),
            truncated=given.truncated,
            values=to_bytes(out),
        )
        job.done += 1
        if job.done == len(job.inputs):
            del self._finishing[job.number]
            self._queue.leave(job)
            yield Finished(number=job.number, reason="stop", usage=job.usage, timings=job.timings(now))

    def _expire(self, job: PoolingJob) -> Failed:
        seconds = job.deadline - job.arrived
        message = f"{job.done} of {len(job.inputs)} inputs were done after {seconds:.0f} s; send fewer at once"
        return self._fail(job, Failed(number=job.number, code="deadline_exceeded", message=message))

    def _fail(self, job: PoolingJob, failed: Failed) -> Failed:
        if self._finishing.pop(job.number, None) is None:
            self._queue.take(job)
        self._queue.leave(job)
        return failed
