"""Requests that are older than the list has, from the request log: page by page, by the filter that is in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from appliance.telemetry.request_record import RequestRecord
from tui.admin_data import RequestPage, read

PAGE: Final = 500
# A page that finds little says how far it looked: so many are asked for, one behind the other, until one finds some.
_PAGES_MAX: Final = 40
# Records are in the order of their ends, and `until` is of their beginnings.
_OVERLAP_SECONDS: Final = 1.0


class Older:
    """One search; its screen begins another one where the filter changes. ask: a question to the admin API.

    wanted: the filter. until: the end of the oldest request that is known, UTC seconds since 1970; known: those whose
    end may be the same or later.
    """

    def __init__(
        self, ask: Callable[[str], Awaitable[Any]], wanted: str, until: float, known: Iterable[RequestRecord]
    ) -> None:
        moment = datetime.fromtimestamp(until + _OVERLAP_SECONDS, UTC)
        self._ask = ask
        self._filter = f"{wanted} until:{moment.isoformat()}".strip()
        self._known = {_identity(record) for record in known}
        self._before: int | None = None
        self.ended = False

    async def page(self) -> tuple[RequestRecord, ...]:
        """The next ones, newest first; none where it has ended. Raises ApplianceError."""
        for _ in range(_PAGES_MAX):
            if self.ended:
                break
            query: dict[str, str | int] = {"filter": self._filter, "limit": PAGE}
            if self._before is not None:
                query["before"] = self._before
            found = read(RequestPage, await self._ask(f"/requests?{urlencode(query)}"))
            self._before, self.ended = found.before, found.before is None
            new = tuple(record for record in found.requests if _identity(record) not in self._known)
            if new:
                return new
        return ()


def _identity(record: RequestRecord) -> tuple[str, bool]:
    """A copy for a trial has the id of what it is a copy of."""
    return record.id, record.mirrored
