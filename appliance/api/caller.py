"""What the API needs of the security layer, per request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from aiohttp import web

from appliance.access_config import PrincipalSettings


class Caller(Protocol):
    """Who is asking: a stable principal, the key it showed, and what it may do.

    expires: when the key stops to work because it has a successor; None while it has none.
    """

    @property
    def id(self) -> str: ...
    @property
    def kid(self) -> str: ...
    @property
    def settings(self) -> PrincipalSettings: ...
    @property
    def expires(self) -> datetime | None: ...


class Doorkeeper(Protocol):
    """Between the gate and the access decision."""

    def address(self, http: web.Request) -> str:
        """The peer's address."""
        ...

    def gate_seconds(self, http: web.Request) -> float | None:
        """How long the gate took with this request's connection; for its first request alone."""
        ...

    def check_recordable(self) -> None:
        """Raises RequestError while what happens cannot be recorded: then nothing may happen."""
        ...

    def authenticate(self, http: web.Request, authorization: Sequence[str]) -> Caller:
        """The caller. Raises RequestError."""
        ...

    async def slow_down(self, http: web.Request) -> None:
        """Called before a failed authentication is answered: returns later where an address fails again and again."""
        ...
