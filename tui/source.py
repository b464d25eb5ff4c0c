"""Where the dashboard's figures come from: the contract of a source.

There are three: the demo (`tui.demo`), the admin API of a running appliance, and a recording of one. A source yields
updates as they come, and answers the questions of the admin API (docs/ADMIN_API.md) with plain data of its form.
Nothing that a source says has been made safe for a terminal: `tui.ingest` does that, for all of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot

Level = Literal["debug", "info", "warning", "error", "critical"]
# Who sees the dashboard: the roles of the admin API.
Role = Literal["operator", "security", "auditor", "viewer"]


class SourceLost(ApplianceError):
    """The source says nothing more for now; the message is the cause."""


class LogLine(Struct, frozen=True, kw_only=True):
    """One line of the service log.

    time: UTC seconds since 1970. logger: the part of the product that said it. number: counts the lines of one run.
    exception: with its traceback.
    """

    time: float
    level: Level
    logger: str
    message: str
    number: int = 0
    exception: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


class Update(Struct, frozen=True, kw_only=True):
    """What is new. requests, logs: oldest first. refused: what this role is not shown, and why, by `requests`, `logs`.

    It is None where nothing is said about it.
    """

    snapshot: Snapshot | None = None
    requests: tuple[RequestRecord, ...] = ()
    logs: tuple[LogLine, ...] = ()
    refused: dict[str, str] | None = None


class Surroundings(Struct, frozen=True, kw_only=True):
    """What the appliance's host shows without it, where this is that host. journal: oldest first.

    facts: what was looked at, what was found, and whether that is how it should be.
    """

    facts: tuple[tuple[str, str, bool], ...]
    journal: tuple[str, ...] = ()


class Identity(Struct, frozen=True, kw_only=True):
    """Who is looking, as the appliance knows them. via: `unix`, `mtls`, `demo` or `replay`.

    until: when their certificate ends, UTC seconds since 1970; None where they need none.
    """

    name: str
    roles: tuple[str, ...]
    via: str
    until: float | None = None


class Act(Struct, frozen=True, kw_only=True):
    """One POST of the admin API. key: makes it be done once, however often it is sent.

    generation: of the credentials for which it was planned; None where they do not matter. approval: of a second
    administrator.
    """

    path: str
    key: str
    body: dict[str, Any] = {}
    generation: int | None = None
    approval: str | None = None


class Planned(Struct, frozen=True, kw_only=True):
    """What an act would answer, and the generation of the credentials for which that is true."""

    answer: Any
    generation: int


class ActRefused(ApplianceError):
    """An act was refused, or nobody knows what became of it. code: as the admin API has it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Source(Protocol):
    """Used from the dashboard's event loop; nothing here blocks it."""

    # What is said where it is lost: a socket's path or a URL.
    where: str
    # A recording is never acted upon.
    recorded: bool
    # Seconds between snapshots: data that is three times as old is stale.
    interval: float

    async def identity(self) -> Identity:
        """Who is looking. Raises ApplianceError."""
        ...

    async def history(self, seconds: float) -> Sequence[Snapshot]:
        """Snapshots of the last `seconds`, oldest first, not more than are shown. Raises ApplianceError."""
        ...

    async def recording(self, since: float, until: float) -> Sequence[Snapshot]:
        """What was recorded from then to then (UTC seconds since 1970), oldest first. Raises ApplianceError."""
        ...

    def updates(self) -> AsyncGenerator[Update, None]:
        """What happens from now on; the first one holds the requests and log lines that there are.

        Called again after SourceLost, it goes on where it was. Raises SourceLost.
        """
        ...

    async def ask(self, path: str, **query: str | int | None) -> Any:
        """The answer to a question, as plain data. Raises ApplianceError."""
        ...

    async def plan(self, path: str, body: dict[str, Any]) -> Planned:
        """What a POST would do, without doing it. Raises ActRefused."""
        ...

    async def act(self, act: Act) -> Any:
        """Does it; the answer, as plain data. Raises ActRefused."""
        ...

    async def surroundings(self) -> Surroundings | None:
        """What this host shows of the appliance without asking it; None where it runs on another one."""
        ...

    async def close(self) -> None:
        """Nothing is asked any more."""
        ...
