"""appliance.telemetry.serving_log"""

from __future__ import annotations

import logging

import pytest

from appliance.telemetry.serving_log import ServingLog
from appliance.telemetry.snapshot import ServingFigures, Snapshot


def said(log: ServingLog, time: float, requests: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    serving = ServingFigures(seconds=300.0, requests=requests)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        log.look(Snapshot(time=time, host_name="h", version="1", started=0.0, serving=serving))
    return caplog.messages


def test_every_five_minutes_with_requests_have_a_line(caplog: pytest.LogCaptureFixture) -> None:
    log = ServingLog()
    assert said(log, 1000.0, 7, caplog) == []
    assert said(log, 1199.0, 7, caplog) == []
    assert said(log, 1200.5, 8, caplog) == ['requests of five minutes: {"seconds":300.0,"requests":8}']
    assert said(log, 1201.5, 8, caplog) == []
    assert said(log, 1500.0, 0, caplog) == []


def test_a_clock_that_steps_back_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    log = ServingLog()
    assert said(log, 1000.0, 7, caplog) == []
    assert said(log, 10.0, 7, caplog) == []
    assert len(said(log, 300.0, 7, caplog)) == 1
