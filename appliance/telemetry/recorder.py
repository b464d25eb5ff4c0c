"""The flight recorder: every snapshot on disk, for whoever asks later what it was like before something happened."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from appliance.store.connection import Connection
from appliance.store.database import Database
from appliance.telemetry.history import HistoryReader
from appliance.telemetry.recording import FILE, MIGRATIONS, SERIES, WHAT, Series, insert, prune
from appliance.telemetry.snapshot import Snapshot

_PRUNE_SECONDS: Final = 60.0
_STEP_SECONDS: Final = 0.1


class FlightRecorder:
    """Belongs to the event loop; a thread of its own writes FILE in `folder`, a block a minute.

    What is not in a block yet is lost where the daemon is killed: a minute of the finest series. A disk that refuses,
    and a damaged file: see `Database`. clock: UTC seconds since 1970. bytes_max: of the file, about.
    """

    def __init__(self, folder: Path, *, bytes_max: int, clock: Callable[[], float]) -> None:
        self._bytes_max = bytes_max
        self._clock = clock
        self._pending: dict[int, list[bytes]] = {series.seconds: [] for series in SERIES}
        self._slots: dict[int, float] = {}
        self._database = Database(folder / FILE, MIGRATIONS, what=WHAT, chore=self._tidy)
        self.reader = HistoryReader(self._database, clock, self.pending)

    def look(self, seen: Snapshot) -> None:
        """Records a snapshot. Never blocks."""
        line = msgspec.json.encode(seen)
        for series in SERIES:
            slot = seen.time // series.seconds
            if slot != self._slots.get(series.seconds):
                self._slots[series.seconds] = slot
                self._pending[series.seconds].append(line)
                if len(self._pending[series.seconds]) >= series.per_block:
                    self._flush(series)

    def pending(self, series: Series) -> Sequence[bytes]:
        """What is not in a block yet. Any thread."""
        return tuple(self._pending[series.seconds])

    def close(self) -> None:
        """Writes what there is and ends the thread; a disk that hangs keeps it no longer than 20 s."""
        for series in SERIES:
            if self._pending[series.seconds]:
                self._flush(series)
        self._database.close()

    def _flush(self, series: Series) -> None:
        lines, self._pending[series.seconds] = self._pending[series.seconds], []
        self._database.write(functools.partial(insert, series=series, lines=lines))

    def _tidy(self, connection: Connection) -> float:
        """The thread's chore."""
        return _STEP_SECONDS if prune(connection, self._clock(), self._bytes_max) else _PRUNE_SECONDS
