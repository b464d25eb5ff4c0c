"""Keeps RequestRecords as JSON lines on disk, and in memory five minutes of them, with the figures of an hour."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import threading
from collections import deque
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.telemetry.quantile import quantile
from appliance.telemetry.recent_answers import RecentAnswers
from appliance.telemetry.request_record import RequestRecord

FILE: Final = "requests.jsonl"
WINDOW_SECONDS: Final = 300
WINDOWS_MAX: Final = 12
RECORDS_PER_WINDOW_MAX: Final = 10_000
_BACKLOG_MAX: Final = 10_000

_log = logging.getLogger(__name__)


class WindowSummary(Struct, frozen=True, kw_only=True):
    """Five minutes in figures. Latencies are seconds over the requests that have them, None without any."""

    start: float
    requests: int
    refused: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_p50: float | None
    ttft_p95: float | None


class Window:
    """The records that ended within one span of WINDOW_SECONDS; the newest RECORDS_PER_WINDOW_MAX of them."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.records: deque[RequestRecord] = deque(maxlen=RECORDS_PER_WINDOW_MAX)

    def summary(self) -> WindowSummary:
        """The window in figures."""
        ttft = sorted(r.ttft_seconds for r in self.records if r.ttft_seconds is not None)
        return WindowSummary(
            start=self.start,
            requests=len(self.records),
            refused=sum(r.outcome == "refused" for r in self.records),
            failed=sum(r.outcome == "failed" for r in self.records),
            prompt_tokens=sum(r.prompt_tokens for r in self.records),
            cached_tokens=sum(r.cached_tokens for r in self.records),
            completion_tokens=sum(r.completion_tokens for r in self.records),
            ttft_p50=quantile(ttft, 0.50),
            ttft_p95=quantile(ttft, 0.95),
        )


class RequestWindows:
    """The open window, and the figures of the WINDOWS_MAX before it, oldest first. Belongs to the event loop.

    The records of a closed window are on disk; kept here, an hour of them made the daemon grow by a tenth.
    """

    def __init__(self) -> None:
        self.open: Window | None = None
        self.closed: deque[WindowSummary] = deque(maxlen=WINDOWS_MAX)

    def add(self, record: RequestRecord) -> WindowSummary | None:
        """Files a record. Returns the figures of the window that it closed, if it opened a new one."""
        start = (record.time + record.total_seconds) // WINDOW_SECONDS * WINDOW_SECONDS
        closed = None
        if self.open is None or start > self.open.start:
            if self.open is not None:
                closed = self.open.summary()
                self.closed.append(closed)
            self.open = Window(start)
        self.open.records.append(record)
        return closed


class RequestLog:
    """Writes records to `path`, one JSON line each, from a thread of its own: the event loop never waits for the disk.

    The file is renamed to `<name>.1`, `.2`, … at file_bytes_max and the newest files_max are kept. A disk that
    refuses is logged once until it takes lines again; the records of that time are counted and lost.
    """

    def __init__(self, path: Path, *, file_bytes_max: int, files_max: int) -> None:
        self.windows = RequestWindows()
        self.recent = RecentAnswers()
        self._path = path
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._queue: queue.Queue[RequestRecord | None] = queue.Queue(_BACKLOG_MAX)
        self._lost = 0  # the thread's
        self._overflowed = 0  # the event loop's
        self._thread = threading.Thread(target=self._write_all, name="request-log", daemon=True)
        self._thread.start()

    def add(self, record: RequestRecord) -> None:
        """Keeps a record. Never blocks; call from the event loop."""
        self.recent.add(record)
        if (closed := self.windows.add(record)) is not None:
            _log.info("requests of five minutes: %s", msgspec.json.encode(closed).decode())
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._overflowed += 1

    def close(self) -> None:
        """Writes what is queued and ends the thread; a disk that hangs keeps it no longer than 10 s."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=10)
        self._thread.join(timeout=10)
        if self._overflowed:
            _log.error("%d records were lost: the disk was too slow for the request log", self._overflowed)

    def _write_all(self) -> None:
        encoder = msgspec.json.Encoder()
        descriptor: int | None = None
        while (record := self._queue.get()) is not None:
            try:
                if descriptor is None:
                    descriptor = self._open()
                _append(descriptor, encoder.encode(record) + b"\n")
                if self._lost:
                    _log.error("the request log works again; %d records were lost", self._lost)
                    self._lost = 0
                if os.fstat(descriptor).st_size >= self._file_bytes_max:
                    os.close(descriptor)
                    descriptor = None
                    self._rotate()
            except OSError as error:
                if not self._lost:
                    _log.error("the request log %s cannot be written: %s", self._path, error.strerror)
                self._lost += 1
                if descriptor is not None:
                    os.close(descriptor)
                    descriptor = None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._files_max))]
        if len(names) == 1:
            self._path.unlink(missing_ok=True)
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)


def _append(descriptor: int, line: bytes) -> None:
    """Writes the whole line or none of it: a disk that fills up takes a part without an error."""
    before = os.fstat(descriptor).st_size
    if os.write(descriptor, line) != len(line):
        os.ftruncate(descriptor, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
