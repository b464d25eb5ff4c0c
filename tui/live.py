"""A running appliance as a source, through its admin API."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from yarl import URL

from appliance.admin_client import AdminClient, AdminError, AdminEvent
from appliance.errors import ApplianceError
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot
from tui.source import Identity, LogLine, SourceLost, Update

# What is shown of the time before the dashboard was opened.
REQUESTS_FIRST: Final = 1000
LOGS_FIRST: Final = 500
# As wide as a chart is.
HISTORY_POINTS: Final = 180
# Of a stream that is taken up again, what is known already: as much as may be between two looks.
_KNOWN_MAX: Final = 4000
# What a role may not see, an older appliance has not, or has nothing of: the rest is shown.
_WITHOUT: Final = ("forbidden", "not_found", "conflict")

T = TypeVar("T")


class _Requests(msgspec.Struct):
    requests: tuple[RequestRecord, ...] = ()


class _Logs(msgspec.Struct):
    lines: tuple[LogLine, ...] = ()


class _History(msgspec.Struct):
    snapshots: tuple[Snapshot, ...] = ()


class LiveSource:
    """connect: opens a client of the daemon's admin API; raises ApplianceError where none runs. via: as in Identity."""

    recorded = False
    interval = 1.0

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[AdminClient]], where: str, via: str) -> None:
        self.where = where
        self._connect = connect
        self._via = via
        self._last_event = ""
        self._known: deque[str] = deque(maxlen=_KNOWN_MAX)
        self._logs_until = 0.0

    async def identity(self) -> Identity:
        """As the appliance knows who is looking."""
        answer = await self.ask("/whoami")
        return Identity(name=str(answer["name"]), roles=tuple(answer["roles"]), via=self._via)

    async def history(self, seconds: float) -> Sequence[Snapshot]:
        """From the flight recorder."""
        since = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        step = max(1, int(seconds / HISTORY_POINTS))
        return (await self._asked_for("/history", _History, since=since, step=step)).snapshots

    async def updates(self) -> AsyncIterator[Update]:
        """From the stream of events, taken up where it was lost."""
        try:
            async with self._connect() as client:
                # The stream first: nothing happens between it and what was before it.
                events = client.events(after=self._last_event)
                try:
                    first = await anext(events, None)
                    if first is None:
                        return
                    yield await self._first(first)
                    async for event in events:
                        yield self._update(event)
                finally:
                    await events.aclose()
        except AdminError as error:
            raise SourceLost(str(error)) from error

    async def ask(self, path: str, **query: str | int | None) -> Any:
        """The answer to a question; `path` may have a query of its own."""
        url = URL(path, encoded=True)
        async with self._connect() as client:
            return await client.get(url.raw_path, **{**dict(url.query), **query})

    async def _first(self, event: AdminEvent) -> Update:
        """With what was before it."""
        requests = await self._asked_for("/requests", _Requests, limit=REQUESTS_FIRST)
        logs = await self._asked_for("/logs", _Logs, limit=LOGS_FIRST)
        update = self._update(event)
        return Update(
            snapshot=update.snapshot,
            requests=(*self._unknown(reversed(requests.requests)), *update.requests),
            logs=(*self._unsaid(logs.lines), *update.logs),
        )

    def _update(self, event: AdminEvent) -> Update:
        self._last_event = event.id
        match event.kind:
            case "snapshot":
                return Update(snapshot=_decoded(event.data, Snapshot))
            case "requests":
                return Update(requests=self._unknown(_decoded(event.data, _Requests).requests))
            case "logs":
                return Update(logs=self._unsaid(_decoded(event.data, _Logs).lines))
            case _:
                # Alerts are in the snapshot too.
                return Update()

    def _unknown(self, records: Any) -> tuple[RequestRecord, ...]:
        known = set(self._known)
        found = tuple(record for record in records if record.id not in known)
        self._known.extend(record.id for record in found)
        return found

    def _unsaid(self, lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
        found = tuple(line for line in lines if line.time > self._logs_until)
        if found:
            self._logs_until = found[-1].time
        return found

    async def _asked_for(self, path: str, kind: type[T], **query: str | int | None) -> T:
        """Nothing where it is not to be had. Raises ApplianceError."""
        try:
            return msgspec.convert(await self.ask(path, **query), kind)
        except AdminError as error:
            if error.code not in _WITHOUT:
                raise
            return kind()
        except msgspec.ValidationError as error:
            raise _other_release(error) from error


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise SourceLost(str(_other_release(error))) from error


def _other_release(error: Exception) -> ApplianceError:
    return ApplianceError(f"the appliance speaks as another release does ({error}); use its own `appliance top`")
