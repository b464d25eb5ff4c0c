"""appliance.models.rollout"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.models.rollout import RolloutPlan, failed_share_at_least, fault_of, judge, weights_at
from appliance.telemetry.recent_answers import AnswerFigures

PLAN = RolloutPlan(model="new", hold_seconds=60, answers_min=10)
OLD = AnswerFigures(answers=1000, failed=10, ttft_p50=0.2, ttft_p95=0.5, token_p50=0.02)


def figures(answers: int, failed: int = 0, ttft: float = 0.2, tail: float = 0.5, token: float = 0.02) -> AnswerFigures:
    return AnswerFigures(answers=answers, failed=failed, ttft_p50=ttft, ttft_p95=tail, token_p50=token)


@pytest.mark.parametrize(
    ("new", "held", "verdict", "says"),
    [
        (figures(0), 1e9, "wait", "0 of 10 answers"),
        (figures(10), 59, "wait", "1 s are left"),
        (figures(10), 60, "go_on", "10 answers, 0 failed"),
        (figures(1, failed=1), 1, "wait", "1 of 10"),
        (figures(2, failed=2), 1, "roll_back", "2 of 2 answers failed; of the old version's 10 of 1000"),
        (figures(100, failed=3), 60, "go_on", "3 failed"),
        (figures(100, failed=10), 60, "roll_back", "10 of 100"),
        (figures(10, ttft=0.41), 1, "roll_back", "410 ms; the old version's 200 ms"),
        (figures(10, ttft=0.39), 60, "go_on", "10 answers"),
        (figures(9, ttft=9.0), 60, "wait", "9 of 10"),
        (figures(10, token=0.05), 60, "roll_back", "half of the tokens take 50 ms"),
        (figures(99, tail=5.0), 60, "go_on", "99 answers"),
        (figures(100, tail=5.0), 60, "roll_back", "one in twenty"),
    ],
)
def test_what_is_done_with_a_new_version(new: AnswerFigures, held: float, verdict: str, says: str) -> None:
    judgement = judge(PLAN, new, OLD, held)
    assert judgement.verdict == verdict and says in judgement.reason


def test_what_is_as_bad_as_the_old_version_is_no_reason_to_go_back() -> None:
    assert judge(PLAN, figures(100, failed=30), figures(1000, failed=300), 60).verdict == "go_on"


def test_without_answers_of_the_old_version_failures_alone_count() -> None:
    none = AnswerFigures()
    assert judge(PLAN, figures(20, ttft=60.0), none, 60).verdict == "go_on"
    assert judge(PLAN, figures(20, failed=10), none, 60).verdict == "roll_back"


def test_times_too_short_to_be_felt_are_no_reason() -> None:
    assert judge(PLAN, figures(20, ttft=0.03), figures(20, ttft=0.005), 60).verdict == "go_on"


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_the_lower_bound_is_below_the_share_and_grows_with_it(case: tuple[int, int]) -> None:
    n, failed = case
    bound = failed_share_at_least(figures(n, failed))
    assert -1e-12 <= bound <= failed / n + 1e-12
    if failed < n:
        assert bound < failed_share_at_least(figures(n, failed + 1))


def test_the_lower_bound_is_wilsons() -> None:
    """Against the textbook case of 9 in 10 at one-sided 95 %."""
    assert failed_share_at_least(figures(10, 9)) == pytest.approx(0.6523, abs=5e-4)


@pytest.mark.parametrize(
    ("steps", "says"),
    [((50, 5, 100), "rise"), ((5, 5, 100), "rise"), ((5, 50), "last step must be 100"), ((100,), None)],
)
def test_steps_rise_to_the_whole(steps: tuple[float, ...], says: str | None) -> None:
    fault = fault_of(RolloutPlan(model="new", steps=steps))
    assert fault is None if says is None else fault is not None and says in fault


def test_the_others_share_the_rest_as_they_did() -> None:
    assert weights_at("new", 20, {"a": 3, "b": 1, "c": 0}) == {"new": 20, "a": 60, "b": 20}
    assert list(weights_at("new", 20, {"a": 1, "new": 5})) == ["new", "a"], "the new one comes first"
    assert weights_at("new", 100, {"a": 1}) == {"new": 100} == weights_at("new", 5, {"new": 1})
