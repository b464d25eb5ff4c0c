"""The `appliance` command with nothing that watches requests: for `bench.telemetry`, and of no other use.

The daemon has no such switch. Here the parts that it hands records, tokens and snapshots to are made to do nothing,
each at the method through which the daemon hands them over. What is asked of them later answers that there was nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

from appliance import daemon
from appliance.__main__ import main
from appliance.observer import Observer
from appliance.telemetry.event_stream import EventStream
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.recorder import FlightRecorder
from appliance.telemetry.request_log import RequestLog
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.serving_log import ServingLog
from appliance.telemetry.snapshot import Snapshot


class NoRequestLog(RequestLog):
    def add(self, record: RequestRecord) -> None:
        """Keeps nothing."""


class NoMetrics(Metrics):
    def saw(self, record: RequestRecord) -> None:
        """Counts nothing."""

    def sent(self, model: str, seconds: float, tokens: int) -> None:
        """Counts nothing."""

    def look(self, seen: Snapshot) -> None:
        """Counts nothing."""


class NoEvents(EventStream):
    def saw(self, record: RequestRecord) -> None:
        """Keeps nothing."""

    def look(self, seen: Snapshot) -> None:
        """Keeps nothing."""


class NoRecorder(FlightRecorder):
    def look(self, seen: Snapshot) -> None:
        """Keeps nothing."""


class NoServingLog(ServingLog):
    def look(self, seen: Snapshot) -> None:
        """Writes nothing."""


class BlindObserver(Observer):
    """What it has seen when it was made stays the newest."""

    def saw(self, record: RequestRecord) -> None:
        """Adds nothing up."""

    async def run(self) -> None:
        """Looks at nothing."""
        await asyncio.Event().wait()


INSTEAD: Final[dict[str, type]] = {
    "RequestLog": NoRequestLog,
    "Metrics": NoMetrics,
    "EventStream": NoEvents,
    "FlightRecorder": NoRecorder,
    "ServingLog": NoServingLog,
    "Observer": BlindObserver,
}


def replace_all() -> None:
    """Before a daemon is made. A name that the daemon knows no more is an error."""
    for name, nothing in INSTEAD.items():
        assert issubclass(nothing, getattr(daemon, name)), name
        setattr(daemon, name, nothing)


if __name__ == "__main__":
    replace_all()
    main()
