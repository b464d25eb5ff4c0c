"""Copies of audit records to a collector: RFC 5424 over TLS, or JSON lines to a file.

At least once: after a lost connection the last CONFIRM_SECONDS of records are sent again, because syslog has no answer
that would tell what arrived. A record is known by its `seq`. What waits for a collector that is away is the log itself,
bounded by `buffer_bytes_max`; what is older is passed over, counted, and told in the log.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from appliance.access_config import Siem
from appliance.audit.backlog import Backlog, Copied
from appliance.audit.journal import internal
from appliance.audit.log import AuditLog
from appliance.audit.record import canonical
from appliance.audit.syslog import syslog_frame
from appliance.audit.syslog_connection import SyslogConnection, parse_target
from appliance.errors import ConfigError, StateError
from appliance.keyring.cipher import Cipher
from appliance.state_dir import append_whole, read_private, write_atomic
from appliance.tasks import TaskOwner

CURSOR_FILE: Final = "siem.cursor"
POLL_SECONDS: Final = 0.25
CONFIRM_SECONDS: Final = 3.0
TRIM_SECONDS: Final = 10.0
BACKOFF_SECONDS: Final = (1.0, 60.0)

_log = logging.getLogger(__name__)


class SiemStatus(Struct, frozen=True):
    """sent, dropped: records since the start. seq: the last one that was sent. failure: why nothing goes out now."""

    sent: int
    dropped: int
    seq: int
    failure: str | None


class _Sink(Protocol):
    async def send(self, records: list[Copied]) -> None: ...
    async def close(self) -> None: ...


class SiemForwarder:
    """Belongs to one event loop; files are read and written in threads. `start` once."""

    def __init__(
        self,
        folder: Path,
        settings: Siem,
        cipher: Cipher,
        log: AuditLog,
        *,
        backoff: tuple[float, float] = BACKOFF_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Raises ConfigError for a target or TLS files that cannot be used."""
        self._settings = settings
        self._log = log
        self._cursor = folder / CURSOR_FILE
        self._confirmed = _read_cursor(self._cursor)
        self._backlog = Backlog(folder, cipher, settings.buffer_bytes_max, self._confirmed)
        self._backoff = backoff
        self._jitter = jitter
        self._sent = 0
        self._failure: str | None = "not connected yet"
        self._unconfirmed: deque[tuple[float, int]] = deque()
        self._trimmed = 0.0
        if settings.format == "syslog":
            self._address = parse_target(settings.target, "audit.siem.target")
            self._tls = _client_context(settings)

    def start(self, tasks: TaskOwner) -> None:
        """Forwards until the owner closes."""
        tasks.spawn(self.run(), name="siem")

    @property
    def status(self) -> SiemStatus:
        """For health and metrics."""
        return SiemStatus(self._sent, self._backlog.dropped, self._backlog.seq, self._failure)

    async def run(self) -> None:
        """Connects, forwards, and connects again, with growing pauses while nothing goes out."""
        pause = self._backoff[0]
        try:
            while True:
                sent = self._sent
                try:
                    await self._forward()
                except (OSError, StateError, TimeoutError) as error:
                    self._fail(error)
                if self._sent > sent:
                    pause = self._backoff[0]
                await asyncio.sleep(pause * (0.5 + self._jitter() / 2))
                pause = min(pause * 2, self._backoff[1])
        finally:
            self._backlog.close()

    async def _forward(self) -> None:
        """One connection's life."""
        self._unconfirmed.clear()
        self._backlog.seek(self._confirmed)
        await self._trim()
        sink = await self._open()
        try:
            if self._failure is not None:
                _log.info("audit records go to %s", self._settings.target)
            self._failure = None
            while True:
                records = await asyncio.to_thread(self._backlog.read, self._log.head.seq)
                await sink.send(records)
                self._sent += len(records)
                if records:
                    self._unconfirmed.append((time.monotonic(), records[-1].record.seq))
                else:
                    await asyncio.sleep(POLL_SECONDS)
                await self._confirm()
                if time.monotonic() - self._trimmed > TRIM_SECONDS:
                    await self._trim()
        finally:
            await sink.close()

    async def _open(self) -> _Sink:
        if self._settings.format == "file":
            return _FileSink(Path(self._settings.target))
        return _SyslogSink(await SyslogConnection.open(*self._address, self._tls))

    async def _confirm(self) -> None:
        """What the connection has outlived for a while counts as delivered."""
        wait = CONFIRM_SECONDS if self._settings.format == "syslog" else 0.0
        confirmed = self._confirmed
        while self._unconfirmed and time.monotonic() - self._unconfirmed[0][0] >= wait:
            confirmed = self._unconfirmed.popleft()[1]
        if confirmed != self._confirmed:
            await asyncio.to_thread(write_atomic, self._cursor, canonical({"seq": confirmed}))
            self._confirmed = confirmed

    async def _trim(self) -> None:
        self._trimmed = time.monotonic()
        if dropped := await asyncio.to_thread(self._backlog.trim):
            first, self._confirmed = self._confirmed == 0, self._backlog.seq
            if first:
                return  # a collector that is new gets what fits, and misses nothing
            _log.error("%d audit records were not copied to %s: too many waited", dropped, self._settings.target)
            self._log.append(internal("audit.siem_dropped", "failed", "buffer_full", records=dropped))

    def _fail(self, error: Exception) -> None:
        failure = str(error) or type(error).__name__
        if failure != self._failure:
            _log.warning("audit records cannot be copied to %s: %s", self._settings.target, failure)
        self._failure = failure


class _SyslogSink:
    def __init__(self, connection: SyslogConnection) -> None:
        self._connection = connection
        self._host = socket.gethostname()

    async def send(self, records: list[Copied]) -> None:
        """Raises OSError when the collector has gone, also without records."""
        await self._connection.send(await asyncio.to_thread(self._frames, records) if records else b"")

    async def close(self) -> None:
        await self._connection.close()

    def _frames(self, records: list[Copied]) -> bytes:
        return b"".join(syslog_frame(copied.record, copied.body, self._host) for copied in records)


class _FileSink:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, records: list[Copied]) -> None:
        """Raises OSError; then none of the records is in the file. Opened each time, so that it may be rotated."""
        if records:
            lines = b"".join(copied.body + b"\n" for copied in records)
            await asyncio.to_thread(append_whole, self._path, lines)

    async def close(self) -> None:
        """Nothing is held open."""


def _client_context(settings: Siem) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ValueError) as error:
        raise ConfigError(f"audit.siem: the TLS files cannot be used: {error}") from error
    return context


def _read_cursor(path: Path) -> int:
    """0 sends everything that is there; a cursor that cannot be read only costs a second copy."""
    if not path.exists():
        return 0
    try:
        return msgspec.json.decode(read_private(path, 4096), type=dict[str, int])["seq"]
    except (StateError, msgspec.MsgspecError, KeyError) as error:
        _log.warning("%s cannot be read, so all audit records are copied again: %s", path, error)
        return 0
