"""Who asks the request log, whether its daemon runs or not. Every method blocks: for a thread. Raises StateError."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from appliance.store.database import DatabaseFile, Reads
from appliance.telemetry.key_hours import KeyUsage, usage_of_keys
from appliance.telemetry.request_filter import RequestFilter
from appliance.telemetry.request_query import PAGE_MAX, Page, Usage, UsageBy, find, page, usage
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.request_table import FILE, MIGRATIONS

WHAT: Final = "request log"


class RequestReader:
    """clock: UTC seconds since 1970, which a filter's `since:15m` is counted back from."""

    def __init__(self, source: Reads, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock

    @classmethod
    def of_folder(cls, folder: Path) -> RequestReader:
        """Of a log that nobody may be writing."""
        return cls(DatabaseFile(folder / FILE, MIGRATIONS, what=WHAT))

    def find(self, ids: Sequence[str]) -> RequestRecord | None:
        """The newest request with one of these ids, mirrored copies aside."""
        return self._source.read(lambda connection: find(connection, ids))

    def page(self, wanted: RequestFilter, *, limit: int, before: int | None = None) -> Page:
        """See `request_query.page`. limit: at most PAGE_MAX."""
        return self._page(wanted, self._clock(), limit, before)

    def all(self, wanted: RequestFilter) -> Iterator[Sequence[RequestRecord]]:
        """Everything that the filter takes, newest first, page by page, so that nobody waits for a slow reader."""
        now, before, first = self._clock(), None, True
        while first or before is not None:
            found = self._page(wanted, now, PAGE_MAX, before, settled=first)
            before, first = found.before, False
            yield found.records

    def usage(self, since: float, until: float, by: Sequence[UsageBy]) -> list[Usage]:
        """See `request_query.usage`."""
        return self._source.read(lambda connection: usage(connection, since, until, by))

    def usage_of_keys(self, kids: Sequence[str]) -> dict[str, KeyUsage]:
        """See `key_hours.usage_of_keys`; what was handed over in the last moment may be missing."""
        now = self._clock()
        return self._source.read(lambda connection: usage_of_keys(connection, kids, now), settled=False)

    def _page(self, wanted: RequestFilter, now: float, limit: int, before: int | None, *, settled: bool = True) -> Page:
        return self._source.read(
            lambda connection: page(connection, wanted, now=now, limit=limit, before=before, monotonic=time.monotonic),
            settled=settled,
        )
