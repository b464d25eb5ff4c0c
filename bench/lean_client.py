"""An HTTP client that does as little as possible: on a two-core machine it shares the cores with what it measures.

Real clients run elsewhere, so what a full client library costs must not count as the appliance's.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from typing import Final

_USAGE: Final = re.compile(rb'"completion_tokens":(\d+)')
_END: Final = b"\r\n0\r\n\r\n"


class LeanClient:
    """One kept-alive connection; one streaming request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader = reader
        self._writer = writer
        self._key = key

    @classmethod
    async def connect(cls, url: str, context: ssl.SSLContext, key: str) -> LeanClient:
        """Opens the connection, handshake included."""
        host, port = url.removeprefix("https://").split(":")
        return cls(*await asyncio.open_connection(host, int(port), ssl=context), key)

    async def stream(self, body: bytes) -> tuple[float, int]:
        """Posts to /v1/completions. Returns (seconds to the first text, completion tokens by the usage)."""
        began = time.monotonic()
        self._writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
            % (self._key.encode(), len(body))
            + body
        )
        first, last = 0.0, b""
        while not last.endswith(_END):
            piece = await self._reader.read(65536)
            assert piece, "the connection was cut"
            if not first and b"data: " in piece:
                first = time.monotonic() - began
            last = (last + piece)[-2048:]
        (tokens,) = _USAGE.findall(last)[-1:]
        return first, int(tokens)

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
