"""Where the dashboard's figures come from: the contract of a source.

There are three: the demo (`tui.demo`), the admin API of a running appliance, and a recording of one. A source yields
updates as they come, and answers the questions of the admin API (docs/ADMIN_API.md) with plain data of its form.
Nothing that a source says has been made safe for a terminal: `tui.ingest` does that, for all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot

Level = Literal["debug", "info", "warning", "error", "critical"]
# Who sees the dashboard: the roles of the admin API.
Role = Literal["viewer", "operator", "security", "auditor"]


class SourceLost(ApplianceError):
    """The source says nothing more for now; the message is the cause."""


class LogLine(Struct, frozen=True, kw_only=True):
    """One line of the service log. time: UTC seconds since 1970. logger: the part of the product that said it."""

    time: float
    level: Level
    logger: str
    message: str
    request_id: str | None = None


class Update(Struct, frozen=True, kw_only=True):
    """What is new. requests, logs: oldest first."""

    snapshot: Snapshot | None = None
    requests: tuple[RequestRecord, ...] = ()
    logs: tuple[LogLine, ...] = ()


class Identity(Struct, frozen=True, kw_only=True):
    """Who is looking, as the appliance knows them. via: `unix`, `mtls`, `demo` or `replay`."""

    name: str
    roles: tuple[str, ...]
    via: str


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

    def updates(self) -> AsyncIterator[Update]:
        """What happens from now on; the first one holds the requests and log lines that there are.

        Called again after SourceLost, it goes on where it was. Raises SourceLost.
        """
        ...

    async def ask(self, path: str, **query: str | int | None) -> Any:
        """The answer to a question, as plain data. Raises ApplianceError."""
        ...
