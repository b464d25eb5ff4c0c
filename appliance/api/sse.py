"""Server-sent events as OpenAI's and Dify's clients read them.

LF only, one `data: ` line and an empty line per block, chunked, never compressed; `: ping` in a block of its own
keeps a waiting client's connection.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

_PING: Final = b": ping\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_encoder = msgspec.json.Encoder()


class EventStream:
    """One SSE answer. Construction commits nothing; `open` sends the 200.

    Every write raises ConnectionError when the client has gone or takes nothing for `slow_client_seconds`.
    """

    def __init__(self, http: web.Request, request_id: str, slow_client_seconds: float) -> None:
        self._http = http
        self._slow_client_seconds = slow_client_seconds
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "X-Request-Id": request_id,
            }
        )

    async def open(self) -> None:
        """Commits the status and sends the headers."""
        self.response.enable_chunked_encoding()
        await self.response.prepare(self._http)

    async def send(self, *objects: msgspec.Struct) -> None:
        """Sends one block per object, all in one write."""
        await self._write(b"".join(b"data: " + _encoder.encode(item) + b"\n\n" for item in objects))

    async def send_error(self, body: bytes) -> None:
        """Sends an error chunk: the way to fail after the 200 is out."""
        await self._write(b"data: " + body + b"\n\n")

    async def ping(self) -> None:
        """Sends a comment that keeps the connection alive."""
        await self._write(_PING)

    async def done(self) -> None:
        """Sends `[DONE]` and ends the answer."""
        await self._write(_DONE)
        await self.response.write_eof()

    async def end(self) -> None:
        """Ends the answer without `[DONE]`, after an error."""
        await self.response.write_eof()

    async def _write(self, data: bytes) -> None:
        await write_within(self._http, self.response, data, self._slow_client_seconds)


async def write_within(http: web.Request, response: web.StreamResponse, data: bytes, seconds: float) -> None:
    """Writes. A client that takes nothing for `seconds` is cut off and raises ConnectionError."""
    try:
        async with asyncio.timeout(seconds):
            await response.write(data)
    except TimeoutError:
        cut(http)
        raise ConnectionResetError(f"the client took nothing for {seconds:.0f} s") from None


def cut(http: web.Request) -> None:
    """Ends the connection at once, unsent bytes and all."""
    if http.transport is not None:
        http.transport.abort()
