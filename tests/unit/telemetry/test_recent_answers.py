"""appliance.telemetry.recent_answers"""

from __future__ import annotations

import pytest

from appliance.telemetry.recent_answers import ANSWERS_MAX, MODELS_MAX, AnswerFigures, RecentAnswers
from appliance.telemetry.request_record import RequestRecord


def record(model: str | None = "m", at: float = 100.0, **fields: object) -> RequestRecord:
    made = {"outcome": "ok", "status": 200, "total_seconds": 1.0, **fields}
    return RequestRecord(id="r", time=at, address="a", method="POST", path="/", model=model, **made)  # type: ignore[arg-type]


def of(*records: RequestRecord) -> RecentAnswers:
    recent = RecentAnswers()
    for one in records:
        recent.add(one)
    return recent


def test_latencies_are_quantiles_of_what_was_answered() -> None:
    recent = of(
        *(record(ttft_seconds=n / 100, decode_seconds=1.0, completion_tokens=n + 1) for n in range(1, 101)),
        record(outcome="failed", status=503, ttft_seconds=99.0),
    )
    figures = recent.figures("m", since=0)
    assert (figures.answers, figures.failed) == (101, 1)
    assert (figures.ttft_p50, figures.ttft_p95) == (0.51, 0.96)
    assert figures.token_p50 == pytest.approx(1 / 50)


def test_what_no_model_has_answered_counts_for_none() -> None:
    recent = of(
        record(outcome="refused", status=429, error_code="too_many_requests"),
        record(outcome="client_gone", status=0),
        record(fallback="repeat"),
        record(None, fallback="answer"),
    )
    assert recent.figures("m", since=0) == AnswerFigures()


def test_what_a_version_refuses_and_those_that_were_stepped_in_for_are_failures() -> None:
    recent = of(
        record("other", failed_models=("m", "n")),
        record(outcome="refused", status=400, error_code="context_length_exceeded"),
    )
    for model, answers, failed in (("m", 2, 2), ("n", 1, 1), ("other", 1, 0)):
        figures = recent.figures(model, since=0)
        assert (figures.answers, figures.failed) == (answers, failed)
    assert recent.figures("m", "other", since=0).failed_share == pytest.approx(2 / 3)


def test_a_time_is_that_of_the_end() -> None:
    recent = of(record(at=10.0, total_seconds=5.0), record(at=20.0))
    assert [recent.figures("m", since=since).answers for since in (15.0, 15.1, 21.0, 21.1)] == [2, 1, 1, 0]
    assert recent.figures("m", since=0, until=15.0).answers == 1


def test_memory_is_bounded() -> None:
    recent = of(*(record(at=float(n)) for n in range(ANSWERS_MAX + 10)))
    assert recent.figures("m", since=0).answers == ANSWERS_MAX
    for n in range(MODELS_MAX):
        recent.add(record(f"other{n}", at=1e6 + n))
    assert recent.figures("m", since=0).answers == 0, "the one that has been quiet for longest goes"
