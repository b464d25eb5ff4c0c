"""The names of the series that the product exports, from the product itself."""

from __future__ import annotations

import re
from typing import Final

from appliance.api.app import api_routes
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.snapshot import Snapshot

_PARTS: Final = {"histogram": ("_bucket", "_sum", "_count")}


def exposition() -> bytes:
    """What a scrape gets of an appliance that has done nothing yet."""
    empty = Snapshot(time=0.0, host_name="box", version="1", started=0.0, read_age_seconds=0.0)
    metrics = Metrics((route.path for route in api_routes()), lambda: empty)
    return metrics.text()


def series() -> frozenset[str]:
    """As queries name them."""
    types = re.findall(r"^# TYPE (\w+) (\w+)$", exposition().decode(), re.MULTILINE)
    return frozenset(name + part for name, kind in types for part in _PARTS.get(kind, ("",)))
