"""Snapshots and conditions for tests of alerts."""

from __future__ import annotations

from typing import Any

from appliance.alerting.rules import Condition
from appliance.telemetry.snapshot import ModelFigures, Percentiles, ServingFigures, Severity, Snapshot

START = 1_764_000_000.0


def snapshot(time: float = START + 60, **more: Any) -> Snapshot:
    return Snapshot(time=time, **{"host_name": "box", "version": "1", "started": START, **more})


def model(**more: Any) -> ModelFigures:
    return ModelFigures(**{"id": "qwen", "state": "ready", **more})


def serving(**more: Any) -> ServingFigures:
    ttft = Percentiles(p95=more.pop("ttft_p95", None))
    return ServingFigures(seconds=300.0, ttft=ttft, **more)


def condition(
    name: str = "GpuHot", what: str = "g0", severity: Severity = "warning", summary: str = "GPU 0 is at 90 °C"
) -> Condition:
    return Condition(name, what, severity, summary)
