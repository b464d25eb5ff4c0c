"""appliance.models.breaker"""

from __future__ import annotations

import pytest

from appliance.errors import ErrorCode
from appliance.models.breaker import SECONDS_MAX, Breaker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def tick(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock, failures_max=3, seconds=30)
    assert [breaker.failed("engine_crash", clock.tick()) for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_after_failures_in_a_row(clock: Clock) -> None:
    breaker = Breaker(clock, failures_max=3, seconds=30)
    for _ in range(5):
        assert not breaker.failed("deadline_exceeded", 0) and not breaker.failed("engine_crash", clock.tick())
        assert not breaker.succeeded()
    assert opened(clock).open


@pytest.mark.parametrize("code", ["invalid_request", "queue_full", "model_unavailable", "too_many_requests"])
def test_what_does_not_speak_against_the_model_does_not_count(clock: Clock, code: ErrorCode) -> None:
    breaker = Breaker(clock, failures_max=1)
    assert not breaker.failed(code, clock.now) and not breaker.open


def test_it_stays_open_for_longer_with_each_probe_that_fails(clock: Clock) -> None:
    breaker = opened(clock)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.pause_seconds())
        clock.now += breaker.pause_seconds()
        assert breaker.open and breaker.pause_seconds() == 0, "half-open: only a probe may come"
        breaker.probe_failed()
    assert pauses == pytest.approx([30, 60, 120, 240, SECONDS_MAX, SECONDS_MAX])
    assert breaker.succeeded() and not breaker.open
    assert [breaker.failed("engine_crash", clock.tick()) for _ in range(3)] == [False, False, True]
    assert breaker.pause_seconds() == pytest.approx(30), "all is forgotten"


def test_a_refusal_says_when_to_try_again(clock: Clock) -> None:
    refusal = opened(clock).refusal("m")
    assert refusal.code == "model_unavailable" and refusal.retry_after in (30, 31)
    assert "'m' has failed 3 times in a row" in refusal.message


def test_none_is_kept_closed(clock: Clock) -> None:
    breaker = Breaker(clock, failures_max=0)
    assert not any(breaker.failed("engine_crash", clock.tick()) for _ in range(100)) and not breaker.open


def test_one_crash_under_many_requests_is_one_failure(clock: Clock) -> None:
    breaker = Breaker(clock, failures_max=2)
    began = clock.now
    clock.now += 1
    assert not any(breaker.failed("engine_crash", began) for _ in range(100))
    clock.now += 1
    assert breaker.failed("engine_crash", clock.now - 0.5), "but the next one counts"


def test_every_request_that_waits_in_vain_counts(clock: Clock) -> None:
    breaker = Breaker(clock, failures_max=2)
    clock.now += 600
    assert [breaker.failed("deadline_exceeded", 1000.0) for _ in range(2)] == [False, True]
