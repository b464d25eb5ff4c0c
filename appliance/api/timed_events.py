"""The events of one request, as long as its client and its deadline have patience."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from appliance.api.evidence import Evidence
from appliance.models.stream import AnswerEvent, AnswerSource

# The engine ends a request at its deadline. This much later we do: for an engine that cannot, or has not begun.
GRACE_SECONDS: Final = 2.0


class TimedEvents:
    """The events of one request, within its deadline, noted in its evidence. A context manager.

    One timer serves all waits: a timeout of its own for every token would be a fifth of a token's cost.
    """

    def __init__(self, source: AnswerSource, draft: Evidence, seconds_max: float) -> None:
        """seconds_max: from now; grace included where the source keeps the deadline itself."""
        self._source = source
        self._draft = draft
        self._deadline = time.monotonic() + seconds_max
        self._until: float | None = None
        self._timer_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> TimedEvents:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def next(self, patience: float) -> AnswerEvent | None:
        """The next event; None when nothing came for `patience` seconds.

        Past the deadline what has text finishes with `length`. Raises RequestError for a request that failed.
        """
        now = time.monotonic()
        if now >= self._deadline:
            self._source.expire()
        self._until = min(now + patience, self._deadline)
        if self._timer is None or self._until < self._timer_at:
            self._arm(now)
        event = await self._source.next()
        self._until = None
        if event is None and time.monotonic() >= self._deadline:
            self._source.expire()
            event = await self._source.next()
        if event is not None:
            self._draft.saw(event)
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
