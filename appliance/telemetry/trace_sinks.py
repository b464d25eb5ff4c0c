"""Where traces go: a collector on the intranet, or a file."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final, Protocol

import aiohttp

from appliance.errors import ApplianceError
from appliance.safe_text import safe_text
from appliance.state_dir import append_whole

SEND_SECONDS_MAX: Final = 10.0
# What a collector may ask to have again: OTLP, "Failures".
_AGAIN: Final = frozenset({429, 502, 503, 504})


class NotTaken(ApplianceError):
    """A batch could not be handed over. again: it may be tried once more."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class TraceSink(Protocol):
    """Where batches go. Belongs to the event loop."""

    async def send(self, batch: bytes) -> None:
        """Hands over one ExportTraceServiceRequest as JSON. Raises NotTaken."""
        ...

    async def close(self) -> None:
        """Nothing is sent any more."""
        ...


class HttpSink:
    """A collector's OTLP/HTTP endpoint, such as https://collector.example:4318/v1/traces.

    context: None for plain HTTP. authorization: the header, where it wants one.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None, authorization: str | None) -> None:
        self._url = url
        self._context = context
        self._headers = {"Content-Type": "application/json"}
        if authorization is not None:
            self._headers["Authorization"] = authorization
        self._session: aiohttp.ClientSession | None = None

    async def send(self, batch: bytes) -> None:
        """One POST."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=SEND_SECONDS_MAX)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with self._session.post(
                self._url, data=batch, headers=self._headers, ssl=self._context or True, allow_redirects=False
            ) as answer:
                await answer.content.read(4096)
                status = answer.status
        except (aiohttp.ClientError, OSError) as error:
            raise NotTaken(f"{self._url}: {safe_text(str(error) or type(error).__name__)}", again=True) from error
        if status // 100 != 2:
            raise NotTaken(f"{self._url} answers {status}", again=status in _AGAIN)

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()


class FileSink:
    """JSON lines, one batch each, as the OpenTelemetry collector's file exporter writes them and its receiver reads.

    The file is renamed to `<name>.1` at bytes_max, in the place of an older one.
    """

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max

    async def send(self, batch: bytes) -> None:
        """In a thread."""
        try:
            await asyncio.to_thread(self._append, batch + b"\n")
        except OSError as error:
            raise NotTaken(f"{self._path}: {error.strerror}", again=True) from error

    async def close(self) -> None:
        """No file is open between two batches."""

    def _append(self, line: bytes) -> None:
        if append_whole(self._path, line) >= self._bytes_max:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
