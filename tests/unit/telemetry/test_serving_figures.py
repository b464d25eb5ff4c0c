"""appliance.telemetry.serving_figures"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.config import Telemetry
from appliance.telemetry import serving_figures
from appliance.telemetry.quantile import quantile
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.serving_figures import FAILURE_SECONDS, RecentFailures, ServingWindow
from appliance.telemetry.snapshot import Percentiles
from tests.unit.telemetry.making import record

OBJECTIVES = Telemetry()


def window() -> ServingWindow:
    return ServingWindow(0.0, OBJECTIVES)


def answer(model: str = "m", **fields: Any) -> RequestRecord:
    given: dict[str, Any] = {
        "model": model,
        "ttft_seconds": 0.5,
        "queue_seconds": 0.1,
        "decode_seconds": 0.2,
        "finish_reason": "stop",
    }
    return record(**{**given, **fields})


def test_all_and_each_model() -> None:
    counted = window()
    counted.add(answer("a"), 100.0)
    counted.add(answer("b", ttft_seconds=3.0, completion_tokens=1), 101.0)
    counted.add(record(outcome="refused", status=429, error_code="too_many_requests", prompt_tokens=0), 102.0)
    counted.add(record(outcome="failed", status=503, error_code="engine_crash", model="a", completion_tokens=0), 103.0)
    counted.add(record(outcome="client_gone", status=0, model="a"), 104.0)
    all_, models = counted.figures(200.0)
    assert (all_.requests, all_.ok, all_.refused, all_.rate_limited, all_.failed, all_.client_gone) == (
        5,
        2,
        1,
        1,
        1,
        1,
    )
    assert all_.seconds == 200.0 and all_.requests_per_second == 0.025
    assert all_.ttft == Percentiles(p50=3.0, p95=3.0, p99=3.0)
    assert all_.token == Percentiles(p50=0.05, p95=0.05, p99=0.05)
    assert all_.finish == {"stop": 2}
    assert all_.goodput == 0.3333
    assert sorted(models) == ["a", "b"]
    assert (models["a"].requests, models["a"].ok, models["a"].failed) == (3, 1, 1)
    assert models["b"].token == Percentiles()


def test_what_is_old_is_taken_out() -> None:
    counted = window()
    counted.add(answer("a"), 100.0)
    counted.add(answer("b", failed_models=("a",), fallback="model"), 300.0)
    assert counted.figures(399.0)[0].requests == 2
    all_, models = counted.figures(400.0)
    assert all_.requests == 1 and all_.seconds == 300.0
    assert (models["a"].requests, models["a"].failed, models["a"].ttft) == (1, 1, Percentiles())
    assert counted.figures(700.0)[1] == {}
    assert counted.figures(700.0)[0].cached_share is None


def test_copies_that_nobody_got_do_not_count() -> None:
    counted, failures = window(), RecentFailures()
    copy = answer(mirrored=True, outcome="failed")
    counted.add(copy, 1.0)
    failures.add(copy)
    assert counted.figures(2.0)[0].requests == 0
    assert failures.newest(0.0) == ()


def test_more_than_can_be_kept_shorten_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_figures, "RECORDS_MAX", 10)
    counted = window()
    for second in range(20):
        counted.add(answer(), float(second))
    all_, models = counted.figures(19.0)
    assert all_.requests == models["m"].requests == 10
    assert all_.seconds == 10.0


def test_models_beyond_the_limit_count_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_figures, "MODELS_MAX", 1)
    counted = window()
    counted.add(answer("a"), 0.0)
    counted.add(answer("b", failed_models=("c",)), 1.0)
    assert list(counted.figures(2.0)[1]) == ["a"]
    counted.add(answer("b"), 300.5)
    assert list(counted.figures(301.5)[1]) == []
    assert counted.figures(301.5)[0].requests == 1


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from("ab"), st.none() | st.floats(0, 100)), max_size=60))
def test_sums_are_those_of_the_records_that_are_left(arrivals: list[tuple[float, str, float | None]]) -> None:
    counted = ServingWindow(0.0, OBJECTIVES, seconds=10.0)
    now, kept = 0.0, []
    for pause, model, ttft in arrivals:
        now += pause
        counted.add(answer(model, ttft_seconds=ttft), now)
        kept.append((now, model, ttft))
    all_, models = counted.figures(now)
    left = [one for one in kept if one[0] > now - 10.0]
    assert all_.requests == len(left)
    assert sum(figures.requests for figures in models.values()) == len(left)
    p95 = quantile(sorted(ttft for _, _, ttft in left if ttft is not None), 0.95)
    assert all_.ttft.p95 == (None if p95 is None else round(p95, 6))


def test_failures_are_folded_by_who_model_and_error() -> None:
    failures = RecentFailures()
    refused = record(outcome="refused", status=401, error_code="invalid_api_key", prompt_tokens=0)
    failures.add(refused)
    failures.add(replace(refused, time=50.0, id="r50"))
    failures.add(replace(refused, time=60.0, address="10.0.0.9"))
    failures.add(record(70, outcome="failed", status=503, error_code="engine_crash", model="m", principal="ci"))
    failures.add(record(80))
    shown = failures.newest(100.0)
    assert [(fold.error_code, fold.count) for fold in shown] == [
        ("engine_crash", 1),
        ("invalid_api_key", 1),
        ("invalid_api_key", 2),
    ]
    assert (shown[2].first, shown[2].time, shown[2].request_id) == (1.0, 51.0, "r50")
    assert failures.newest(100.0, most=1) == shown[:1]
    assert failures.newest(65.0 + FAILURE_SECONDS) == shown[:1]


def test_a_failure_that_comes_back_after_an_hour_is_a_new_one() -> None:
    failures = RecentFailures()
    for time in (0.0, 2 * FAILURE_SECONDS):
        failures.add(record(time=time, outcome="failed", status=500))
    assert [fold.count for fold in failures.newest(2 * FAILURE_SECONDS)] == [1]


def test_kinds_of_failures_are_bounded() -> None:
    failures = RecentFailures()
    for number in range(serving_figures.FAILURES_MAX + 10):
        failures.add(record(outcome="refused", status=401, address=f"10.0.{number >> 8}.{number & 255}"))
    assert len(failures.newest(10.0, most=10_000)) == serving_figures.FAILURES_MAX
