"""The thread that writes captured requests: whatever happens to it or its disk, requests go on."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.access_config import Capture
from appliance.capture.day_file import DayFile, OpenDayFile, WriteCall, claim, files_of, frame_bytes, torn_bytes
from appliance.capture.exchange import Exchange, parts_of
from appliance.capture.resealing import sweep
from appliance.capture.retention import prune
from appliance.errors import StateError
from appliance.keyring.keyring import PurposeCipher

QUEUE_MAX: Final = 1024
QUEUE_BYTES_MAX: Final = 64 * 2**20
FILE_BYTES_MAX: Final = 64 * 2**20
# A thread that wakes for every request takes the interpreter from the event loop as often: several are written at once.
GATHER_SECONDS: Final = 0.05
# How long after a failure the disk is left alone, and how soon a file is left after a rotation or at midnight.
RETRY_SECONDS: Final = 1.0
TICK_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)
_encoder: Final = msgspec.msgpack.Encoder()


class WriterStatus(Struct, frozen=True):
    """Since the start. kept, lost: requests. failure: why the last one was lost, None once one was kept again."""

    kept: int = 0
    lost: int = 0
    failure: str | None = None


class CaptureWriter:
    """settings: put here by the event loop, and read for every request. status: for any thread; replaced as a whole."""

    def __init__(
        self,
        folder: Path,
        cipher: PurposeCipher,
        settings: Capture,
        now: Callable[[], datetime],
        *,
        write: WriteCall = os.write,
    ) -> None:
        self.settings = settings
        self.status = WriterStatus()
        self._folder = folder
        self._cipher = cipher
        self._now = now
        self._write_call = write
        self._queue: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._bytes_put = 0  # the event loop's
        self._bytes_taken = 0  # the thread's, as all that follows
        self._open: OpenDayFile | None = None
        self._begun = False
        self._stored = 0
        self._failed_at = -RETRY_SECONDS
        self._thread = threading.Thread(target=self._run, name="prompt-capture", daemon=True)
        self._thread.start()

    def put(self, exchange: Exchange) -> bool:
        """Never blocks. False where there is no room: the disk is slower than the requests. For the event loop."""
        size = exchange.held_bytes
        waiting = self._bytes_put - self._bytes_taken
        # Whatever its size, one finds room where nothing waits.
        if self._queue.qsize() >= QUEUE_MAX or (waiting and waiting + size > QUEUE_BYTES_MAX):
            return False
        self._bytes_put += size
        self._queue.put(exchange)
        return True

    @property
    def has_caught_up(self) -> bool:
        """Whether hardly anything waits."""
        return self._queue.qsize() <= 1

    def close(self) -> None:
        """Writes what waits, and ends the thread; a disk that hangs is waited for 10 s."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        self._attempt(self._begin)
        while (exchange := self._next()) is not None:
            failed = self._failed_lately or self._attempt(partial(self._keep, exchange))
            if failed is None:
                self._note_kept()
            else:
                self.status = WriterStatus(self.status.kept, self.status.lost + 1, failed)
            self._bytes_taken += exchange.held_bytes
            if not self._queue.qsize():
                self._closing.wait(GATHER_SECONDS)
        self._attempt(self._leave)

    def _next(self) -> Exchange | None:
        """The next request, None at the end."""
        while True:
            try:
                return self._queue.get(timeout=None if self._open is None else TICK_SECONDS)
            except queue.Empty:
                if self._is_stale or not self.settings.enabled:
                    self._attempt(self._leave)

    @property
    def _failed_lately(self) -> str | None:
        """Why the disk is left alone for the moment."""
        return self.status.failure if time.monotonic() < self._failed_at + RETRY_SECONDS else None

    def _attempt(self, work: Callable[[], None]) -> str | None:
        """Does it and returns None, or what went wrong. Then the file is left; the next request begins a new one."""
        try:
            work()
            return None
        except (OSError, StateError) as error:
            failure = str(error)
        except Exception as error:
            _log.exception("the prompt capture failed")
            failure = repr(error)
        self._failed_at = time.monotonic()
        if self.status.failure is None:
            _log.error("prompts are not captured: %s; requests go on without it", failure)
        self.status = WriterStatus(self.status.kept, self.status.lost, failure)
        try:
            self._leave()
        except OSError as error:
            _log.warning("a file of captured prompts may lack its end: %s", error)
        return failure

    def _begin(self) -> None:
        """Makes the folder, and looks at what an earlier process left."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        sweep(self._folder)
        files = files_of(self._folder)
        if files:
            self._mend(files[-1])
        self._stored = prune(self._folder, self._today(), self.settings)
        self._begun = True

    def _mend(self, newest: DayFile) -> None:
        """Only the file that was written last can have a torn end."""
        file = claim(self._folder / newest.name)
        if file is None:
            return
        with file:
            torn = torn_bytes(file)
            if torn:
                file.truncate(os.fstat(file.fileno()).st_size - torn)
                _log.warning("%s: the last captured request was not written whole; %d bytes dropped", newest.name, torn)

    def _keep(self, exchange: Exchange) -> None:
        if not self._begun:
            self._begin()
        head, content = (_encoder.encode(part) for part in parts_of(exchange))
        need = frame_bytes(head, content)
        if self._is_stale or (self._open is not None and self._open.size + need > self._file_bytes_max):
            self._leave()
        self._make_room(need)
        if self._open is None:
            self._open = self._new_file()
        self._open.append(head, content)
        self._stored += need

    def _make_room(self, need: int) -> None:
        most = self.settings.disk_bytes_max
        if self._stored + need <= most:
            return
        self._stored = prune(self._folder, self._today(), self.settings, need)
        if self._stored + need > most:
            self._leave()
            self._stored = prune(self._folder, self._today(), self.settings, need)
        if self._stored + need > most:
            raise StateError(f"{need} bytes do not fit into capture.disk_bytes_max: {most}")

    def _new_file(self) -> OpenDayFile:
        today = self._today()
        self._stored = prune(self._folder, today, self.settings)
        number = max((file.number for file in files_of(self._folder) if file.day == today), default=0) + 1
        return OpenDayFile(self._folder, DayFile(today, number), self._cipher, write=self._write_call)

    @property
    def _is_stale(self) -> bool:
        """Whether nothing more may come into the open file."""
        file = self._open
        return file is not None and not (file.is_current and file.file.day == self._today())

    def _leave(self) -> None:
        file, self._open = self._open, None
        if file is not None:
            file.close()

    @property
    def _file_bytes_max(self) -> int:
        """The oldest file goes as a whole, so it must be a small part of all."""
        return min(FILE_BYTES_MAX, self.settings.disk_bytes_max // 8)

    def _today(self) -> date:
        return self._now().astimezone(UTC).date()

    def _note_kept(self) -> None:
        before = self.status
        self.status = WriterStatus(before.kept + 1, before.lost)
        if before.failure is not None:
            _log.warning("prompts are captured again; %d requests were not, since the start", before.lost)
