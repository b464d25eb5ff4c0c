"""One submitted request on its way back to the client, as a stream or as one body.

When the HTTP status is committed (DESIGN 5.5): at the first text, or after `commit_stream_seconds` /
`commit_blocking_seconds`. Before that every failure is a real status. After it a stream gets an `error` chunk, and a
blocking call's connection is cut unfinished: never a 200 with an error body. A waiting client gets `: ping`, or white
space in front of a blocking body.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import msgspec
from aiohttp import web

from appliance.api.envelope import error_body
from appliance.api.evidence import Evidence
from appliance.api.keys import EVIDENCE, LIMITS, ROUTER
from appliance.api.openai_schema import CompletionObject
from appliance.api.sse import EventStream, SlowClientGuard, cut
from appliance.config import RequestLimits
from appliance.errors import RequestError
from appliance.models.stream import ResponseStream
from appliance.types import FinishReason, Request, Timings, Usage
from appliance.wire import Delta, Finished


class Shape(Protocol):
    """How one endpoint writes its answers."""

    def opening(self) -> list[CompletionObject]:
        """Chunks before the first text."""
        ...

    def delta(self, text: str) -> CompletionObject:
        """The chunk of some text."""
        ...

    def finish(self, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The last chunk with a choice: the only one with a finish_reason; it always has the usage."""
        ...

    def usage(self, usage: Usage) -> CompletionObject:
        """The chunk with `choices: []`, for clients that asked for usage."""
        ...

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> CompletionObject:
        """The body of a blocking call."""
        ...


async def respond(
    http: web.Request, request: Request, shape: Shape, *, stream: bool, include_usage: bool
) -> web.StreamResponse:
    """Runs `request` and writes its answer. Leaving early, for any reason, aborts it in the engine."""
    limits, draft = http.app[LIMITS], http[EVIDENCE]
    with http.app[ROUTER].submit(request) as source, TimedEvents(source, draft, limits.request_seconds) as events:
        draft.source = source
        if stream:
            return await _respond_streaming(http, shape, events, draft, limits, include_usage)
        return await _respond_blocking(http, shape, events, draft, limits)


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
        event = await self._source.next()
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


async def _respond_streaming(
    http: web.Request, shape: Shape, events: TimedEvents, draft: Evidence, limits: RequestLimits, include_usage: bool
) -> web.StreamResponse:
    event = await events.next(limits.commit_stream_seconds)
    async with EventStream(http, draft.id, limits.slow_client_seconds) as sse:
        draft.committed = True
        return await _stream(sse, shape, events, event, draft, limits, include_usage)


async def _stream(
    sse: EventStream,
    shape: Shape,
    events: TimedEvents,
    event: Delta | Finished | None,
    draft: Evidence,
    limits: RequestLimits,
    include_usage: bool,
) -> web.StreamResponse:
    try:
        opening = shape.opening()
        while not isinstance(event, Finished):
            if event is None:
                await sse.ping()
            else:
                await sse.send(*opening, shape.delta(event.text))
                opening = []
            event = await events.next(limits.ping_seconds)
    except RequestError as error:
        draft.failed(error)
        await sse.send_error(error_body(error))
        await sse.end()
        return sse.response
    await sse.send(*opening, shape.finish(event.reason, event.usage), *_asked_usage(shape, event, include_usage))
    await sse.done()
    return sse.response


def _asked_usage(shape: Shape, end: Finished, include_usage: bool) -> list[CompletionObject]:
    return [shape.usage(end.usage)] if include_usage else []


async def _respond_blocking(
    http: web.Request, shape: Shape, events: TimedEvents, draft: Evidence, limits: RequestLimits
) -> web.StreamResponse:
    text: list[str] = []
    commit_at = time.monotonic() + limits.commit_blocking_seconds
    early: EarlyBody | None = None
    with SlowClientGuard(http, limits.slow_client_seconds) as guard:
        try:
            while not isinstance(event := await events.next(_until(commit_at, early, limits)), Finished):
                if event is not None:
                    text.append(event.text)
                else:
                    early = early or await EarlyBody.commit(http, draft, guard)
                    await early.write(b" ")
        except RequestError as error:
            if early is None:
                raise
            draft.failed(error)
            cut(http)
            raise ConnectionResetError(f"cut after the commit: {error.message}") from error
        body = msgspec.json.encode(shape.whole("".join(text), event.reason, event.usage))
        if early is None:
            return web.Response(body=body, content_type="application/json", charset="utf-8")
        return await early.finish(body)


def _until(commit_at: float, early: EarlyBody | None, limits: RequestLimits) -> float:
    """Seconds until the waiting client must hear something."""
    return limits.ping_seconds if early is not None else max(0.0, commit_at - time.monotonic())


class EarlyBody:
    """A blocking answer whose 200 went out before its JSON: white space keeps the client waiting."""

    def __init__(self, response: web.StreamResponse, guard: SlowClientGuard) -> None:
        self._response = response
        self._guard = guard

    @classmethod
    async def commit(cls, http: web.Request, draft: Evidence, guard: SlowClientGuard) -> EarlyBody:
        """Sends the status and the headers."""
        response = web.StreamResponse(
            headers={"Content-Type": "application/json; charset=utf-8", "X-Request-Id": draft.id}
        )
        response.enable_chunked_encoding()
        await response.prepare(http)
        draft.committed = True
        return cls(response, guard)

    async def write(self, data: bytes) -> None:
        """Sends a part of the body."""
        await self._guard.write(self._response, data)

    async def finish(self, body: bytes) -> web.StreamResponse:
        """Sends the JSON and ends the answer."""
        await self.write(body)
        await self._response.write_eof()
        return self._response
