"""Server-sent events as OpenAI's and Dify's clients read them.

LF only, one `data: ` line and an empty line per block, chunked, never compressed; `: ping` in a block of its own
keeps a waiting client's connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

PING: Final = b": ping\n\n"
NAMED_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_DONE: Final = b"data: [DONE]\n\n"
_encoder = msgspec.json.Encoder()


class NamedEvent(Struct, frozen=True):
    """An object that goes out with an `event:` line of its own."""

    name: str
    data: Struct


class SlowClientGuard:
    """Cuts off a client that takes nothing for `seconds`. A context manager around all writes of one answer.

    A write that must wait for the client is rare, so the watch is one timer an answer, not a timeout a write.
    """

    def __init__(self, http: web.Request, seconds: float) -> None:
        self._http = http
        self._seconds = seconds
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> SlowClientGuard:
        self._watch()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def write(self, response: web.StreamResponse, data: bytes) -> None:
        """Writes. Raises ConnectionError when the client has gone or was cut off."""
        self._since = time.monotonic()
        await response.write(data)
        self._since = None

    async def end(self, response: web.StreamResponse) -> None:
        """Ends the answer: what is not written yet goes out. Raises as `write` does."""
        self._since = time.monotonic()
        await response.write_eof()
        self._since = None

    def _watch(self) -> None:
        waited = 0.0 if self._since is None else time.monotonic() - self._since
        if waited >= self._seconds:
            cut(self._http)
        else:
            self._timer = asyncio.get_running_loop().call_later(self._seconds - waited, self._watch)


class EventStream:
    """One SSE answer. An async context manager: entering it commits the 200.

    Every write raises ConnectionError when the client has gone or takes nothing for `slow_client_seconds`.
    """

    def __init__(self, http: web.Request, request_id: str, slow_client_seconds: float, ping: bytes = PING) -> None:
        self._http = http
        self._ping = ping
        self._guard = SlowClientGuard(http, slow_client_seconds)
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "X-Request-Id": request_id,
            }
        )

    async def __aenter__(self) -> EventStream:
        self.response.enable_chunked_encoding()
        await self.response.prepare(self._http)
        self._guard.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._guard.__exit__(*exc)

    async def send(self, *objects: Struct | Raw) -> None:
        """Sends one block per object, all in one write."""
        if objects:
            await self._write(b"".join([_block(item) for item in objects]))

    async def ping(self) -> None:
        """Sends what keeps the connection alive."""
        await self._write(self._ping)

    async def done(self) -> None:
        """Sends `[DONE]` and ends the answer."""
        await self._write(_DONE)
        await self._guard.end(self.response)

    async def end(self) -> None:
        """Ends the answer without `[DONE]`."""
        await self._guard.end(self.response)

    async def _write(self, data: bytes) -> None:
        await self._guard.write(self.response, data)


def _block(item: Struct | Raw) -> bytes:
    if isinstance(item, NamedEvent):
        return b"event: %s\ndata: %s\n\n" % (item.name.encode(), _encoder.encode(item.data))
    return b"data: " + _encoder.encode(item) + b"\n\n"


def cut(http: web.Request) -> None:
    """Ends the connection at once, unsent bytes and all."""
    if http.transport is not None:
        http.transport.abort()
