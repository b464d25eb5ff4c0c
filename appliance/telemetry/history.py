"""What the flight recorder has recorded, whether its daemon runs or not. Blocking: for a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance.store.connection import Connection
from appliance.store.database import DatabaseFile, Reads
from appliance.telemetry.recording import FILE, MIGRATIONS, SERIES, WHAT, Series, lines_between, time_of, within

SNAPSHOTS_MAX: Final = 2000


class History(Struct, frozen=True, kw_only=True):
    """snapshots: JSON, oldest first, at most one each `step` seconds."""

    step: float
    snapshots: Sequence[bytes]


class HistoryReader:
    """pending: what of a series is not in a block yet, from any thread. clock: UTC seconds since 1970."""

    def __init__(
        self,
        source: Reads,
        clock: Callable[[], float],
        pending: Callable[[Series], Sequence[bytes]] = lambda series: (),
    ) -> None:
        self._source = source
        self._clock = clock
        self._pending = pending

    @classmethod
    def of_folder(cls, folder: Path, clock: Callable[[], float]) -> HistoryReader:
        """Of a recorder that nobody may be writing."""
        return cls(DatabaseFile(folder / FILE, MIGRATIONS, what=WHAT), clock)

    def read(self, since: float, until: float, step: float = 0.0) -> History:
        """The snapshots from `since` to `until`. step: seconds between two of them, 0: as few as SNAPSHOTS_MAX allows.

        It is larger where there would be more than those, and where nothing finer is kept from so long ago. Raises
        StateError.
        """
        step = max(step, (until - since) / SNAPSHOTS_MAX, 1.0)
        series = series_for(since, step, self._clock())
        step = max(step, float(series.seconds))
        waiting = self._pending(series)

        def recorded(connection: Connection) -> list[bytes]:
            return list(thinned(lines_between(connection, series, since, until), step))

        lines = thinned(chain(self._source.read(recorded), within(waiting, since, until)), step)
        return History(step=step, snapshots=[line for line, _ in zip(lines, range(SNAPSHOTS_MAX), strict=False)])


def series_for(since: float, step: float, now: float) -> Series:
    """The coarsest that is as fine as `step`, or the finest that is kept from so long ago. Pure."""
    kept = [series for series in SERIES if now - since <= series.keep_seconds] or [SERIES[-1]]
    return next((series for series in reversed(kept) if series.seconds <= step), kept[0])


def thinned(lines: Iterable[bytes], step: float) -> Iterator[bytes]:
    """The first of each `step` seconds; lines of other times than in order are taken as they come. Pure."""
    before = None
    for line in lines:
        if (slot := time_of(line) // step) != before:
            before = slot
            yield line
