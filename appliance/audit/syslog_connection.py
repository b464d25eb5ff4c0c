"""One connection to a syslog collector, by TLS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from typing import Final

from appliance.errors import ConfigError

CONNECT_SECONDS: Final = 10.0
SEND_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 1.0


class SyslogConnection:
    """Belongs to one event loop. Made by `open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl.SSLContext) -> SyslogConnection:
        """Raises OSError or TimeoutError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return cls(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=host))

    async def send(self, frames: bytes) -> None:
        """Raises OSError or TimeoutError; OSError when the collector has gone, also without frames."""
        if self._reader.at_eof() or self._writer.is_closing():
            raise ConnectionResetError(errno.ECONNRESET, "the collector closed the connection")
        if frames:
            self._writer.write(frames)
        async with asyncio.timeout(SEND_SECONDS):
            await self._writer.drain()

    async def stays(self, seconds: float) -> None:
        """Raises OSError where the collector closes the connection meanwhile: syslog has no other answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self._reader.read(4096):
                    pass
                raise ConnectionResetError(errno.ECONNRESET, "the collector closed the connection")

    async def close(self) -> None:
        """Says goodbye, for a moment."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()


def parse_target(target: str, key: str) -> tuple[str, int]:
    """`host:port`, `[address]:port`. key: of appliance.yaml that has it. Raises ConfigError."""
    host, colon, port = target.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{key} {target!r} is no host:port")
    return host, int(port)
