"""Keeps RequestRecords: in SQLite on disk, and in memory what a rollout is judged by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.store.connection import Connection
from appliance.store.database import Database
from appliance.telemetry.recent_answers import RecentAnswers
from appliance.telemetry.request_reader import WHAT, RequestReader
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.request_retention import prune
from appliance.telemetry.request_table import FILE, MIGRATIONS, insert
from appliance.telemetry.request_takeover import TakeOver

# Between two looks at what is kept no longer, and between two steps where there is more.
_PRUNE_SECONDS: Final = 10.0
_STEP_SECONDS: Final = 0.05


class RequestLog:
    """Writes records to FILE in `folder`, from a thread of its own: the event loop never waits for the disk.

    Keeps what is no older than retention_days, as much of it as fits into bytes_max; the write-ahead log beside the
    file, up to 8 MiB, comes on top. What an older release left in JSON lines is taken over first. clock: UTC seconds
    since 1970. A disk that refuses, and a damaged file: see `Database`.
    """

    def __init__(self, folder: Path, *, retention_days: float, bytes_max: int, clock: Callable[[], float]) -> None:
        self.recent = RecentAnswers()
        self._retention_days = retention_days
        self._bytes_max = bytes_max
        self._clock = clock
        self._take_over: TakeOver | None = TakeOver(folder)
        self._database = Database(folder / FILE, MIGRATIONS, what=WHAT, chore=self._tidy)
        self.reader = RequestReader(self._database, clock)

    @property
    def lost(self) -> int:
        """Records that are in no file, since the start."""
        return self._database.lost

    def add(self, record: RequestRecord) -> None:
        """Keeps a record. Never blocks; call from the event loop."""
        self.recent.add(record)
        self._database.write(functools.partial(insert, record=record))

    def close(self) -> None:
        """Writes what is queued and ends the thread; a disk that hangs keeps it no longer than 20 s."""
        self._database.close()

    def _tidy(self, connection: Connection) -> float:
        """The thread's chore."""
        now = self._clock()
        more = prune(connection, now=now, retention_days=self._retention_days, bytes_max=self._bytes_max)
        if self._take_over is not None:
            if self._take_over.step(connection, now - self._retention_days * 86_400):
                return 0.0
            self._take_over = None
        return _STEP_SECONDS if more else _PRUNE_SECONDS
