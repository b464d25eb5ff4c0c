"""Takes requests that have ended, and hands them as traces to a collector or a file: in batches, bounded, unhurried.

By hand over aiohttp instead of OpenTelemetry's SDK: see docs/ARCHITECTURE.md, Dependencies, aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from appliance.telemetry.spans import TracedRequest, export_request
from appliance.telemetry.trace_context import RandomBytes, TraceContext, begun, continued
from appliance.telemetry.trace_sinks import NotTaken, TraceSink

# About 2 KiB of JSON each.
BATCH_MAX: Final = 256
PAUSE_SECONDS_MAX: Final = 60.0
_CLOSE_SECONDS_MAX: Final = 2.0

_log = logging.getLogger(__name__)


class Tracing:
    """Decides which requests are traced, and sends those that are sampled. Belongs to the event loop.

    queue_max: requests that wait to be sent; further ones are dropped and counted. sink: None keeps trace ids for the
    log alone. While a sink does not take anything, the pauses grow to PAUSE_SECONDS_MAX.
    """

    def __init__(
        self,
        sink: TraceSink | None,
        *,
        resource: Mapping[str, str],
        ratio: float = 1.0,
        queue_max: int = 8192,
        interval_seconds: float = 5.0,
        random: RandomBytes = secrets.token_bytes,
    ) -> None:
        self._sink = sink
        self._resource = resource
        self._ratio = ratio
        self._queue_max = queue_max
        self._interval = interval_seconds
        self._random = random
        self._queue: deque[TracedRequest] = deque()
        self._full = asyncio.Event()
        self.sent = 0
        self.dropped = 0
        self.failure: str | None = None

    def trace(self, header: str | None) -> TraceContext | None:
        """Of a request that has just come; None where it is part of none. header: what it sent as `traceparent`."""
        if header is not None and (found := continued(header, self._random)) is not None:
            return found
        return None if self._sink is None else begun(self._ratio, self._random)

    def ended(self, request: TracedRequest) -> None:
        """Takes a request, where it is sampled. Never blocks."""
        if self._sink is None or not request.trace.sampled:
            return
        if len(self._queue) >= self._queue_max:
            self.dropped += 1
            return
        self._queue.append(request)
        if len(self._queue) >= BATCH_MAX:
            self._full.set()

    async def run(self) -> None:
        """Sends until it is cancelled; then what is left, for at most two seconds."""
        if self._sink is None:
            return
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._full.wait()
                self._full.clear()
                await self._send_all(self._sink)
        finally:
            with contextlib.suppress(TimeoutError, NotTaken):
                async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                    await self._send_next(self._sink)
            await self._sink.close()

    async def _send_all(self, sink: TraceSink) -> None:
        pause = self._interval
        while self._queue:
            try:
                await self._send_next(sink)
            except NotTaken as refused:
                self._failed(refused)
                await asyncio.sleep(pause)
                pause = min(PAUSE_SECONDS_MAX, 2 * pause)

    async def _send_next(self, sink: TraceSink) -> None:
        """One batch. Raises NotTaken; the batch stays where it may be tried again."""
        batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
        if not batch:
            return
        try:
            await sink.send(await asyncio.to_thread(self._encoded, batch))
        except asyncio.CancelledError:
            self._queue.extendleft(reversed(batch))
            raise
        except NotTaken as refused:
            if refused.again:
                room = self._queue_max - len(self._queue)
                self.dropped += max(0, len(batch) - room)
                self._queue.extendleft(reversed(batch[:room]))
            else:
                self.dropped += len(batch)
            raise
        self.sent += len(batch)
        if self.failure is not None:
            _log.info("traces are taken again; %d of them are lost", self.dropped)
            self.failure = None

    def _encoded(self, batch: Sequence[TracedRequest]) -> bytes:
        """In a thread: a batch takes some 15 ms of Python."""
        return msgspec.json.encode(export_request(batch, self._resource, self._random))

    def _failed(self, refused: NotTaken) -> None:
        if self.failure is None:
            _log.warning("traces are not taken: %s", refused)
        self.failure = str(refused)
