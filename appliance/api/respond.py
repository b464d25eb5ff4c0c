"""One submitted request on its way back to the client, as a stream or as one body.

When the HTTP status is committed: at the first text, or after `commit_stream_seconds` / `commit_blocking_seconds` /
`commit_pooling_seconds`.
Before that every failure is a real status. After it a stream gets an `error` chunk, and a blocking call's connection is
cut unfinished: never a 200 with an error body. A waiting client gets a ping, or white space before a blocking body.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from appliance.api.admission import admitted, estimated_tokens
from appliance.api.answer_evidence import evidence_of
from appliance.api.attempts import Attempt, Attempts, Endpoint, Terms
from appliance.api.captured import CapturedRequest
from appliance.api.dialect import dialect_of
from appliance.api.evidence import Evidence
from appliance.api.keys import CALLER, CAPTURE, EVIDENCE, LIMITS, ROUTER
from appliance.api.mirror import MIRRORS
from appliance.api.parsed import AnswerTerms, parsed
from appliance.api.request_fields import Asked, route_of
from appliance.api.shape import AnswerWriter, InPieces, Keeps, Shape, ShapedAnswer
from appliance.api.sse import EventStream, SlowClientGuard, cut
from appliance.api.timed_events import GRACE_SECONDS
from appliance.config import RequestLimits
from appliance.errors import RequestError
from appliance.models.routes import Route
from appliance.models.stream import AnswerEnd, AnswerEvent
from appliance.types import Request, Usage

# Encrypted in 1 ms.
_WRITE_BYTES: Final = 256 * 1024


def computed(
    http: web.Request,
    asked: Asked,
    request: Request,
    shape: Shape,
    drawn: int | None = None,
    wanted: AnswerTerms | None = None,
) -> Attempt:
    """An answer of our own engine. Leaving it early, for any reason, aborts it there.

    drawn: how many choices of each prompt there are, of which the client gets the best `n`. wanted: how its text is to
    be read; None where it is text alone.
    """
    n, prompts = asked.n or 1, 1 + len(request.further)
    drawn = drawn or n
    writer = ShapedAnswer(shape, drawn * prompts, include_usage=asked.include_usage, best=(n, drawn))
    return computed_by(http, asked, request, writer, drawn, wanted)


def computed_by(
    http: web.Request,
    asked: Asked,
    request: Request,
    writer: AnswerWriter,
    drawn: int = 1,
    wanted: AnswerTerms | None = None,
) -> Attempt:
    """The same for an endpoint with a writer of its own."""
    choices, tokens = drawn * (1 + len(request.further)), estimated_tokens(request, drawn)
    terms = Terms(choices, bool(asked.stream), tokens, request.seconds_max + GRACE_SECONDS)
    repeatable = request.sampling.temperature == 0 and terms.n == 1 and request.logprobs is None
    submitted = http.app[ROUTER].submit(request, drawn)
    if wanted is not None:
        submitted = parsed(submitted, wanted, terms.n)
    return Attempt(submitted, writer, terms, repeatable, evidence_of(request, drawn))


async def respond(http: web.Request, asked: Asked, endpoint: Endpoint) -> web.StreamResponse:
    """Admits a request, and answers it with the first attempt that can."""
    limits = http.app[LIMITS]()
    route = route_of(http, asked.model, asked.user or "")
    attempts = Attempts(http, asked, route, endpoint)
    wait_seconds = limits.limit_wait_seconds if endpoint.queues else 0.0
    wait_until = time.monotonic() + wait_seconds
    async with admitted(http, attempts.terms.tokens, wait_seconds):
        if wait_seconds:
            left = max(0.0, wait_until - time.monotonic())
            await http.app[ROUTER].wait_for_room(route.models[0], http[CALLER].id, left)
        return await _answered(http, endpoint, route, attempts)


async def _answered(http: web.Request, endpoint: Endpoint, route: Route, attempts: Attempts) -> web.StreamResponse:
    limits, draft = http.app[LIMITS](), http[EVIDENCE]
    commit_seconds = limits.commit_pooling_seconds if endpoint.queues else limits.commit_blocking_seconds
    with attempts:
        if route.mirror is not None:
            http.app[MIRRORS].copy(http, endpoint, route.mirror)
        if (capture := http.app[CAPTURE]) is not None:
            bytes_max = capture.bytes_max(http[CALLER].id)
            if bytes_max is not None:
                draft.captured = CapturedRequest(capture, await http.read(), attempts.terms.n, bytes_max)
        answer = _Answer(http, attempts, draft, limits, commit_seconds)
        return await (answer.stream() if attempts.terms.stream else answer.block())


class _Answer:
    """One answer under way to one client."""

    def __init__(
        self, http: web.Request, attempts: Attempts, draft: Evidence, limits: RequestLimits, commit_seconds: float
    ) -> None:
        """commit_seconds: until a blocking answer that has not come keeps its client waiting."""
        self._commit_seconds = commit_seconds
        self._http = http
        self._attempts = attempts
        self._draft = draft
        self._limits = limits

    async def stream(self) -> web.StreamResponse:
        """As server-sent events."""
        first = await self._attempts.next(self._limits.commit_stream_seconds)
        ping, seconds = dialect_of(self._http).ping, self._limits.slow_client_seconds
        async with EventStream(self._http, self._draft.id, seconds, ping) as sse:
            self._draft.committed = True
            try:
                await self._send_events(sse, first)
            except RequestError as error:
                self._draft.failed(error)
                await sse.send(*self._attempts.writer.failed(error))
                await sse.end()
            return sse.response

    async def _send_events(self, sse: EventStream, event: AnswerEvent | None) -> None:
        spoke = time.monotonic()
        while not isinstance(event, AnswerEnd):
            chunks = () if event is None else self._attempts.writer.chunks(event)
            if chunks:
                await sse.send(*chunks)
            # A call that is held back until it is whole may take long.
            elif event is None or time.monotonic() - spoke >= self._limits.ping_seconds:
                await sse.ping()
            if event is None or chunks:
                spoke = time.monotonic()
            event = await self._attempts.next(self._limits.ping_seconds)
        writer = self._attempts.writer
        chunks = writer.chunks(event)
        await sse.send(*chunks[:-1])
        if isinstance(writer, Keeps):
            await writer.keep()
        await sse.send(*chunks[-1:])
        await (sse.done() if writer.says_done else sse.end())

    async def block(self) -> web.StreamResponse:
        """As one JSON body."""
        with SlowClientGuard(self._http, self._limits.slow_client_seconds) as guard:
            early = _EarlyBody(self._http, self._draft, guard)
            try:
                body = await self._collect(early)
            except RequestError as error:
                if not self._draft.committed:
                    raise
                self._draft.failed(error)
                cut(self._http)
                raise ConnectionResetError(f"cut after the commit: {error.message}") from error
            return await early.finish(body)

    async def _collect(self, early: _EarlyBody) -> list[bytes]:
        """The whole answer; meanwhile the client hears something whenever it has waited long enough."""
        speak_at = time.monotonic() + self._commit_seconds
        while True:
            event = await self._attempts.next(max(0.0, speak_at - time.monotonic()))
            if event is None:
                await early.keep_waiting()
                speak_at = time.monotonic() + self._limits.ping_seconds
                continue
            self._attempts.writer.add(event)
            if isinstance(event, AnswerEnd):
                writer = self._attempts.writer
                if isinstance(writer, Keeps):
                    await writer.keep()
                return await _encoded(writer, event.usage)


async def _encoded(writer: AnswerWriter, usage: Usage) -> list[bytes]:
    """The body, in pieces. One that takes long to write lets the loop serve others in between."""
    if not isinstance(writer, InPieces):
        return [writer.whole(usage)]
    pieces = []
    for piece in writer.pieces(usage):
        pieces.append(piece)
        await asyncio.sleep(0)
    return pieces


class _EarlyBody:
    """A blocking answer whose 200 may go out before its JSON: white space keeps the client waiting."""

    def __init__(self, http: web.Request, draft: Evidence, guard: SlowClientGuard) -> None:
        self._http = http
        self._draft = draft
        self._guard = guard
        self._response: web.StreamResponse = web.StreamResponse(
            headers={"Content-Type": "application/json; charset=utf-8", "X-Request-Id": draft.id}
        )

    async def keep_waiting(self) -> None:
        """Sends white space; the first time it commits the 200."""
        if not self._draft.committed:
            self._response.enable_chunked_encoding()
            await self._response.prepare(self._http)
            self._draft.committed = True
        await self._guard.write(self._response, b" ")

    async def finish(self, pieces: Sequence[bytes]) -> web.StreamResponse:
        """Sends the JSON and ends the answer."""
        if not self._draft.committed:
            self._response.content_length = sum(map(len, pieces))
            await self._response.prepare(self._http)
            self._draft.committed = True
        for piece in pieces:
            for start in range(0, len(piece), _WRITE_BYTES):
                await self._guard.write(self._response, piece[start : start + _WRITE_BYTES])
                # A client that takes everything at once would never make us wait.
                await asyncio.sleep(0)
        await self._guard.end(self._response)
        return self._response
