"""One row of the admin API's table: who may call what, and what it is called in the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct

from appliance.access_config import AdminRole
from appliance.admin.administrator import Administrator
from appliance.admin.site import AdminSite
from appliance.audit.record import AuditEvent, Outcome
from appliance.errors import ChangeRefused
from appliance.security.office import Change, Office, Transition

T = TypeVar("T")
B = TypeVar("B", bound=Struct)


@dataclass(frozen=True, slots=True)
class Answer:
    """body: what msgspec writes as JSON, or bytes that are JSON. generation: of the credentials it was made from."""

    body: object
    generation: int
    status: int = 200


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer to a GET that is sent piece by piece. Where `chunks` raises after the first, the connection is cut.

    live: it goes on for as long as somebody reads. That one leaves is nothing to log, and who takes nothing for
    SLOW_READER_SECONDS is cut.
    """

    chunks: AsyncIterator[bytes]
    content_type: str
    generation: int
    live: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One request that has passed identity, role and body checks.

    route: its row of the table. expected: the generation in If-Match. plan: only say what would happen.
    connected_at: when its connection was made. last_event_id: where a stream of events is to go on.
    """

    route: Route
    administrator: Administrator
    site: AdminSite
    match: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    expected: int | None
    plan: bool
    connected_at: datetime
    last_event_id: str = ""

    @property
    def office(self) -> Office:
        """Where changes are made."""
        return self.site.office

    async def change(
        self,
        resource: str,
        transition: Transition[T],
        *,
        action: str | None = None,
        details: Mapping[str, str | int] | None = None,
        finish: Callable[[], Awaitable[None]] | None = None,
    ) -> Change[T]:
        """Changes the credentials, or plans to, for the caller: see `Office.change`. action: None for the route's."""
        return await self.office.change(
            self.administrator.actor,
            action or self.route.action,
            resource,
            transition,
            expected=self.expected,
            plan=self.plan,
            details={**(details or {}), **self.forced},
            finish=finish,
        )

    @property
    def forced(self) -> dict[str, str | int]:
        """For the audit records of an act that takes `force`: that it was given."""
        return {"force": "true"} if getattr(self.body, "force", False) else {}

    def event(
        self,
        outcome: Outcome,
        resource: str | None = None,
        *,
        action: str | None = None,
        reason: str | None = None,
        request_id: str | None = None,
        details: Mapping[str, str | int] | None = None,
    ) -> AuditEvent:
        """What is to be recorded of it where it is no change of the credentials. action: None for the route's."""
        return AuditEvent(
            action=action or self.route.action,
            outcome=outcome,
            actor=self.administrator.actor,
            resource=resource,
            reason=reason,
            request_id=request_id,
            details=details or {},
        )

    def parsed(self, kind: type[B]) -> B:
        """The body, which the route's table says is of this kind."""
        assert isinstance(self.body, kind)
        return self.body

    def answer(self, body: object) -> Answer:
        """The answer to what was asked, from the credentials of this moment."""
        return Answer(body, self.office.document.generation)

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number of the query. Raises ChangeRefused."""
        text = self.query.get(name, str(default))
        if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or int(text) > most:
            raise ChangeRefused("invalid", f"{name}: expected a whole number from 0 to {most}")
        return int(text)

    def time(self, name: str) -> datetime | None:
        """A point in time of the query, None where it has none of this name. Raises ChangeRefused."""
        text = self.query.get(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ChangeRefused("invalid", f"{name}: {text!r} is no time such as 2026-11-25T18:00:00+00:00") from error
        if moment.tzinfo is None:
            raise ChangeRefused("invalid", f"{name}: say the time zone too, such as 2026-11-25T18:00:00+00:00")
        return moment


@dataclass(frozen=True, slots=True)
class Route:
    """path: as aiohttp writes it, below /admin/v1. action: its name in the audit log and in `two_persons`.

    body: what a POST must hold; None: nothing. roles: any one of them suffices; deny is the default.
    plans: whether `?plan=true` only says what would happen; where it cannot, it is refused. alone: a second person can
    never be asked for.
    """

    method: Literal["GET", "POST"]
    path: str
    action: str
    roles: frozenset[AdminRole]
    handler: Callable[[Call], Awaitable[Answer | Stream]]
    body: type[Struct] | None = None
    plans: bool = True
    alone: bool = False
