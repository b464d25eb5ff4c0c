"""How often each entry of the allowlist let a request in, by the hour, and when last: coarse, bounded, not secret.

An operator looks here for entries that nobody needs. So a request counts for one entry alone, the narrowest that lets
its address in, and whatever comes of it; and an entry is known from when it first counted, hit or not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from appliance.errors import StateError
from appliance.state_dir import FiguresFile, read_private

HOURS: Final = 24
ENTRIES_MAX: Final = 20_000
FILE_BYTES_MAX: Final = 64 * 2**20
# One that is in no list any more may come back, by a trial that is undone.
FORGET_AFTER: Final = timedelta(days=30)
_HOUR: Final = 3600

# Up to the year 5138: what a datetime can hold.
Seconds = Annotated[int, Meta(ge=0, le=100_000_000_000)]
Count = Annotated[int, Meta(ge=0)]

_log = logging.getLogger(__name__)


class Hits(Struct, frozen=True, kw_only=True):
    """last_day: requests of the hour that has begun and the 23 before. last: the newest; None: never since `since`."""

    last_day: int
    last: datetime | None
    since: datetime


class _Entry(Struct, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds since 1970, UTC. hours: requests, by the number of the hour since 1970."""

    since: Seconds
    last: Seconds | None = None
    hours: dict[int, Count] = {}


class EntryHits:
    """Belongs to the event loop. Entries are named as in `Rule.name`.

    A note takes half a microsecond. A damaged file is reported and begun anew: losing it costs figures, not access.
    """

    def __init__(self, path: Path) -> None:
        self._file = FiguresFile(path)
        self._entries: dict[str, _Entry] = {}
        if path.exists():
            try:
                self._entries = msgspec.json.decode(read_private(path, FILE_BYTES_MAX), type=dict[str, _Entry])
            except (StateError, ValueError) as error:
                _log.warning("%s cannot be read (%s); hits of the allowlist are counted anew", path, error)

    def note(self, name: str, now: datetime) -> None:
        """A request came in by this entry. An empty name is no entry's: loopback, where nothing is listed."""
        if not name:
            return
        seconds = int(now.timestamp())
        entry = self._entries.get(name) or self._add(name, seconds)
        hour = seconds // _HOUR
        if hour in entry.hours:
            entry.hours[hour] += 1
        else:
            entry.hours = {old: count for old, count in entry.hours.items() if hour - HOURS < old <= hour} | {hour: 1}
        entry.last = seconds
        self._file.changed = True

    def keep(self, names: Iterable[str], now: datetime) -> None:
        """Knows these entries from now on, and forgets those that are no more and were quiet for FORGET_AFTER."""
        kept, seconds = set(names), int(now.timestamp())
        oldest = seconds - FORGET_AFTER // timedelta(seconds=1)
        for name in [name for name, entry in self._entries.items() if name not in kept and _newest(entry) < oldest]:
            del self._entries[name]
            self._file.changed = True
        for name in kept - self._entries.keys():
            self._add(name, seconds)
            self._file.changed = True

    def of(self, name: str, now: datetime) -> Hits | None:
        """None of an entry that is not known yet."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        hour = int(now.timestamp()) // _HOUR
        return Hits(
            last_day=sum(count for known, count in entry.hours.items() if hour - HOURS < known <= hour),
            last=None if entry.last is None else datetime.fromtimestamp(entry.last, UTC),
            since=datetime.fromtimestamp(entry.since, UTC),
        )

    def save(self) -> None:
        """Writes the file where something changed, and waits for the disk: for the end, when nobody is served."""
        self._file.save(self._entries)

    async def save_aside(self) -> None:
        """The same in a thread. A failure is logged and tried again next time."""
        await self._file.save_aside(self._entries)

    def _add(self, name: str, seconds: int) -> _Entry:
        if len(self._entries) >= ENTRIES_MAX:
            by_age = sorted(self._entries, key=lambda known: _newest(self._entries[known]))
            for oldest in by_age[: ENTRIES_MAX // 10]:
                del self._entries[oldest]
        entry = self._entries[name] = _Entry(since=seconds)
        return entry


def _newest(entry: _Entry) -> int:
    return entry.since if entry.last is None else entry.last
