"""appliance.telemetry.request_windows: windows of five minutes, and their figures."""

from __future__ import annotations

from appliance.telemetry.request_windows import WINDOWS_MAX, RequestWindows
from tests.unit.telemetry.making import record


def test_windows_close_every_five_minutes() -> None:
    windows = RequestWindows()
    assert windows.add(record(1, time=10.0, ttft_seconds=0.1)) is None
    assert windows.add(record(2, time=200.0, outcome="refused")) is None
    summary = windows.add(record(3, time=299.5))
    assert summary is not None
    assert (summary.start, summary.requests, summary.refused, summary.failed) == (0, 2, 1, 0)
    assert (summary.prompt_tokens, summary.cached_tokens, summary.completion_tokens) == (20, 8, 10)
    assert (summary.ttft_p50, summary.ttft_p95) == (0.1, 0.1)


def test_windows_are_bounded_and_a_clock_that_steps_back_is_harmless() -> None:
    windows = RequestWindows()
    for number in range(WINDOWS_MAX + 5):
        windows.add(record(number, time=number * 300.0))
    assert [summary.start for summary in windows.closed] == [number * 300.0 for number in range(4, WINDOWS_MAX + 4)]
    assert windows.add(record(time=0.0)) is None
    assert windows.open is not None and len(windows.open.records) == 2


def test_quantiles_are_by_nearest_rank() -> None:
    windows = RequestWindows()
    for number in range(100):
        windows.add(record(0, ttft_seconds=number / 100))
    assert windows.open is not None
    summary = windows.open.summary()
    assert (summary.ttft_p50, summary.ttft_p95) == (0.5, 0.95)
