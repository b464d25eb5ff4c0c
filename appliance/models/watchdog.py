"""Whether a worker that serves still works: it speaks while it owes answers, and computes a token now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from appliance.config import WorkerLimits
from appliance.errors import RequestError
from appliance.models.launcher import WorkerLink

_log = logging.getLogger(__name__)

# Has the worker compute the least there is within so many seconds. Raises RequestError, TimeoutError.
Probe = Callable[[float], Awaitable[None]]


class Watchdog:
    """Of one worker after the other. Belongs to the event loop. name: of the instance. clock: monotonic, in seconds."""

    def __init__(self, name: str, limits: WorkerLimits, clock: Callable[[], float]) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._owed_since: float | None = None
        self._served_at = clock()

    def begin(self) -> None:
        """A worker is there, and owes nothing."""
        self._owed_since = None
        self.note_served()

    def end(self) -> None:
        """It has gone."""
        self._owed_since = None

    def note_asked(self) -> None:
        """A word from it is due."""
        if self._owed_since is None:
            self._owed_since = self._clock()

    def note_heard(self, *, owes_more: bool) -> None:
        """It has spoken."""
        self._owed_since = self._clock() if owes_more else None

    def note_served(self) -> None:
        """It has answered somebody whole."""
        self._served_at = self._clock()

    @property
    def silent_seconds(self) -> float:
        """How long it has owed a word."""
        return 0.0 if self._owed_since is None else self._clock() - self._owed_since

    async def watch_silence(self, link: WorkerLink) -> None:
        """Ends a worker that owes an answer and says nothing."""
        limit = self._limits.silence_seconds_max
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            if self.silent_seconds > limit:
                _log.error("model %s: no word for %.0f s with work pending; ending the worker", self._name, limit)
                link.kill()
                return

    async def watch_health(self, link: WorkerLink, probe: Probe, busy: Callable[[], bool]) -> None:
        """Asks a worker that serves nobody for a token now and then: it may be stuck without anybody waiting for it.

        While it serves, its answers are the proof.
        """
        pause = self._limits.probe_seconds
        while pause:
            await asyncio.sleep(max(0.0, self._served_at + pause - self._clock()))
            if busy() or self._clock() < self._served_at + pause:
                await asyncio.sleep(min(1.0, pause))
                continue
            # A worker that refuses is alive.
            with contextlib.suppress(RequestError):
                await self._probe_or_kill(link, probe)
            self.note_served()

    async def _probe_or_kill(self, link: WorkerLink, probe: Probe) -> None:
        seconds = self._limits.step_seconds_max
        try:
            await probe(seconds)
        except TimeoutError:
            _log.error("model %s gave a probe no token in %.0f s; ending the worker", self._name, seconds)
            link.kill()
