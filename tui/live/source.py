"""A running appliance as a source: its admin API, through the Unix socket or over mTLS.

One connection streams what happens, another one answers questions, and every act has a connection of its own: what
keeps a change of the allowlist must have come through after it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from appliance.admin_client import AdminClient, AdminError, AdminEvent
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot
from tui.live.host import look_around
from tui.source import Act, ActRefused, Identity, LogLine, Planned, SourceLost, Surroundings, Update

# What is asked for first, and once more after a loss: the newest of each.
PAGE: Final = 1000
HISTORY_POINTS: Final = 360
# More than two pages: an event may repeat what a page had.
_SEEN_MAX: Final = 4 * PAGE

T = TypeVar("T")


class _Requests(Struct, frozen=True):
    requests: tuple[RequestRecord, ...]


class _Logs(Struct, frozen=True):
    lines: tuple[LogLine, ...]


class LiveSource:
    """connect: makes a client; each is closed here. where: the socket or the URL, for people.

    socket: where the appliance runs on this host. certificate_ends: the operator's own; UTC seconds since 1970.
    """

    recorded = False
    interval = 1.0

    def __init__(
        self,
        connect: Callable[[], AdminClient],
        where: str,
        socket: Path | None = None,
        now: Callable[[], float] = time,
        certificate_ends: float | None = None,
    ) -> None:
        self.where = where
        self._socket = socket
        self._connect = connect
        self._now = now
        self._certificate_ends = certificate_ends
        self._asking: AdminClient | None = None
        self._last_event = ""
        # The log keeps times to the microsecond, the stream has them as they were measured.
        self._requests = _News[RequestRecord](lambda record: (record.id, round(record.time, 2)))
        self._logs = _News[LogLine](lambda line: (line.number, line.time))

    async def identity(self) -> Identity:
        """As `GET /whoami` says."""
        who = await self._get("/whoami")
        via = "mtls" if who.get("uid") is None else "unix"
        return Identity(name=str(who["name"]), roles=tuple(who["roles"]), via=via, until=self._certificate_ends)

    async def history(self, seconds: float) -> Sequence[Snapshot]:
        """From the flight recorder; nothing where there is none."""
        now = self._now()
        try:
            return await self._recorded(now - seconds, now, max(1, int(seconds / HISTORY_POINTS)))
        except AdminError as error:
            if error.code in ("not_found", "forbidden", "conflict", "invalid"):
                return ()
            raise

    async def recording(self, since: float, until: float) -> Sequence[Snapshot]:
        """From the flight recorder, as fine as it has it."""
        return await self._recorded(since, until, 0)

    async def _recorded(self, since: float, until: float, step: int) -> Sequence[Snapshot]:
        times = {
            name: datetime.fromtimestamp(moment, UTC).isoformat()
            for name, moment in (("since", since), ("until", until))
        }
        found = await self._get("/history", step=step, **times)
        return _read(found["snapshots"], tuple[Snapshot, ...])

    async def updates(self) -> AsyncGenerator[Update, None]:
        """The newest requests and log lines that there are, and then what happens."""
        try:
            async with self._connect() as client, aclosing(client.events(after=self._last_event)) as events:
                known = False
                async for event in events:
                    update = self._update(event)
                    if not known:
                        # The stream has begun: between what is asked for now and what it brings, nothing is missed.
                        known = True
                        yield await self._newest(client)
                    if update is not None:
                        yield update
        except AdminError as error:
            raise SourceLost(error.cause) from error

    async def ask(self, path: str, **query: str | int | None) -> Any:
        """The answer of the admin API."""
        # A path may bring a query of its own.
        path, _, text = path.partition("?")
        return await self._get(path, **dict(parse_qsl(text)), **query)

    async def plan(self, path: str, body: dict[str, Any]) -> Planned:
        """With `?plan=true`."""
        try:
            async with self._connect() as client:
                answer = await client.post(path, body, plan=True)
                return Planned(answer=answer, generation=client.generation)
        except AdminError as error:
            raise ActRefused(error.code, str(error)) from error

    async def act(self, act: Act) -> Any:
        """Over a connection of its own."""
        try:
            async with self._connect() as client:
                return await client.post(
                    act.path, act.body, generation=act.generation, approval=act.approval, idempotency_key=act.key
                )
        except AdminError as error:
            raise ActRefused(error.code, str(error)) from error

    async def surroundings(self) -> Surroundings | None:
        """Of this host."""
        return None if self._socket is None else await look_around(self._socket)

    async def close(self) -> None:
        """Ends the connection for questions."""
        if self._asking is not None:
            await self._asking.__aexit__()
            self._asking = None

    async def _get(self, path: str, **query: str | int | None) -> Any:
        if self._asking is None:
            self._asking = self._connect()
        try:
            return await self._asking.get(path, **query)
        except AdminError as error:
            if error.code == "unreachable":
                raise SourceLost(error.cause) from error
            raise

    async def _newest(self, client: AdminClient) -> Update:
        """What there was before the stream."""
        refused: dict[str, str] = {}

        async def page(name: str, kind: type[T]) -> tuple[T, ...]:
            try:
                found = await client.get(f"/{name}", limit=PAGE)
            except AdminError as error:
                if error.code not in ("forbidden", "not_found", "conflict"):
                    raise
                refused[name] = str(error)
                return ()
            return _read(found["lines" if name == "logs" else name], tuple[kind, ...])  # type: ignore[valid-type]

        requests = await page("requests", RequestRecord)
        logs = await page("logs", LogLine)
        return Update(
            # Pages are newest first.
            requests=self._requests.of(reversed(requests)),
            logs=self._logs.of(logs),
            refused=refused,
        )

    def _update(self, event: AdminEvent) -> Update | None:
        """What an event brings; kinds that are not known are of a newer appliance. Raises SourceLost."""
        self._last_event = event.id or self._last_event
        match event.kind:
            case "snapshot":
                return Update(snapshot=_decode(event.data, Snapshot))
            case "requests":
                return Update(requests=self._requests.of(_decode(event.data, _Requests).requests))
            case "logs":
                return Update(logs=self._logs.of(_decode(event.data, _Logs).lines))
            case _:
                return None


class _News(Generic[T]):
    """What has come already, by identity; so many that a page and what the stream says beside it are among them."""

    def __init__(self, identity: Callable[[T], Hashable]) -> None:
        self._identity = identity
        # In the order in which they came.
        self._seen: dict[Hashable, None] = {}

    def of(self, found: Iterable[T]) -> tuple[T, ...]:
        """Those that are new."""
        new = []
        for one in found:
            identity = self._identity(one)
            if identity not in self._seen:
                self._seen[identity] = None
                new.append(one)
        while len(self._seen) > _SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return tuple(new)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise SourceLost(f"the appliance is of another version than this dashboard: {error}") from error


def _read(found: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SourceLost(f"the appliance is of another version than this dashboard: {error}") from error
