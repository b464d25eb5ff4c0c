"""What the router needs of a model, whoever serves it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from appliance.models.snapshot import InstanceSnapshot
from appliance.upstream_spec import ServedModel


class Model(Protocol):
    """Belongs to the event loop. A request is submitted to the one kind or the other: the router knows which it has."""

    @property
    def spec(self) -> ServedModel:
        """Its entry in models.yaml."""
        ...

    @property
    def settled(self) -> asyncio.Event:
        """Set once it is known whether it can be served."""
        ...

    def start(self) -> None:
        """Begins to serve."""
        ...

    def snapshot(self) -> InstanceSnapshot:
        """The present state; taking it wakes nobody."""
        ...

    async def probe(self, seconds: float) -> None:
        """Has it compute one token; does nothing where it is not ready. Raises RequestError, TimeoutError."""
        ...

    async def close(self, drain_seconds: float) -> None:
        """Takes no new request, lets running ones finish for at most `drain_seconds`, and ends."""
        ...

    def hurry(self) -> None:
        """Ends the wait of `close`."""
        ...
