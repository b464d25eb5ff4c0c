"""The events of one request, as long as its client and its deadline have patience."""

from __future__ import annotations

import asyncio
import time

from appliance.api.evidence import Evidence
from appliance.errors import RequestError
from appliance.models.stream import ResponseStream
from appliance.types import Timings, Usage
from appliance.wire import Delta, Finished


class TimedEvents:
    """The events of one request, within its deadline, noted in its evidence. A context manager.

    One timer serves all waits: a timeout of its own for every token would be a fifth of a token's cost.
    """

    def __init__(self, source: ResponseStream, draft: Evidence, request_seconds: float) -> None:
        self._source = source
        self._draft = draft
        self._deadline = time.monotonic() + request_seconds
        self._until: float | None = None
        self._timer_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> TimedEvents:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def next(self, patience: float) -> Delta | Finished | None:
        """The next event; None when nothing came for `patience` seconds.

        At the deadline a request that has its slot finishes with `length`. Raises RequestError for one that failed.
        """
        now = time.monotonic()
        self._until = min(now + patience, self._deadline)
        if self._timer is None or self._until < self._timer_at:
            self._arm(now)
        event = await self._source.next() if now < self._deadline else self._out_of_time()
        self._until = None
        if event is None:
            if time.monotonic() < self._deadline:
                return None
            event = self._out_of_time()
        if isinstance(event, Delta):
            self._draft.saw_text(event.tokens)
        else:
            self._draft.end, self._draft.finish_reason = event, event.reason
        return event

    def _arm(self, now: float) -> None:
        assert self._until is not None
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._until
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._until - now), self._ring)

    def _ring(self) -> None:
        """The timer was set for some earlier wait: the present one may have longer, or there is none."""
        self._timer = None
        if self._until is None:
            return
        now = time.monotonic()
        if now < self._until:
            self._arm(now)
        else:
            self._source.nudge()

    def _out_of_time(self) -> Finished:
        started = self._source.started
        if started is None:
            raise RequestError("queue_full", "the request found no free slot in time; try again later", retry_after=10)
        usage = Usage(
            prompt_tokens=started.prompt_tokens,
            completion_tokens=self._draft.completion_tokens,
            cached_tokens=started.cached_tokens,
        )
        timings = Timings(queue_seconds=0.0, prefill_seconds=0.0, decode_seconds=0.0)
        return Finished(number=0, reason="length", usage=usage, timings=timings)
