"""What the requests of every five minutes were like, as a line of the service log."""

from __future__ import annotations

import logging

import msgspec

from appliance.telemetry.serving_figures import WINDOW_SECONDS
from appliance.telemetry.snapshot import Snapshot

_log = logging.getLogger(__name__)


class ServingLog:
    """Belongs to the event loop. Is given every Snapshot; where there were no requests, nothing is said."""

    def __init__(self) -> None:
        self._slot: float | None = None

    def look(self, seen: Snapshot) -> None:
        """The first snapshot after each WINDOW_SECONDS holds the figures of that time."""
        slot = seen.time // WINDOW_SECONDS
        if self._slot is not None and slot > self._slot and seen.serving.requests:
            _log.info("requests of five minutes: %s", msgspec.json.encode(seen.serving).decode())
        self._slot = slot
