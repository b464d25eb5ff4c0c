"""appliance.security.limits and the questions it asks of principal_usage"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access_config import PrincipalSettings
from appliance.security import limits as limits_module
from appliance.security.limits import Admission, PrincipalLimits
from appliance.security.period_sums import TokenSums
from appliance.security.principal_usage import LimitRefusal, day_of, month_of

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)
DAY_SECONDS = 86_400


class Driver:
    """One principal's calls, at a time that the test moves."""

    def __init__(self, limits: PrincipalLimits | None = None, principal: str = "app", **settings: Any) -> None:
        self.limits = PrincipalLimits() if limits is None else limits
        self.principal = principal
        self.settings = PrincipalSettings(**settings)
        self.mono = 1000.0
        self.wall = NOON

    def later(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += timedelta(seconds=seconds)

    def ask(self, estimate: int = 0) -> Admission | LimitRefusal:
        return self.limits.admit(self.principal, self.settings, estimate, self.mono, self.wall)

    def admit(self, estimate: int = 0) -> Admission:
        outcome = self.ask(estimate)
        assert isinstance(outcome, Admission), outcome
        return outcome

    def refuse(self, estimate: int = 0) -> LimitRefusal:
        outcome = self.ask(estimate)
        assert isinstance(outcome, LimitRefusal)
        return outcome

    def use(self, tokens: int) -> None:
        """A request whose estimate is right."""
        self.admit(tokens).settle(tokens, self.mono)

    def wait_seconds(self, estimate: int) -> float:
        """0 where it would be admitted."""
        refusal = self.limits.check(self.principal, self.settings, estimate, self.mono, self.wall)
        return 0.0 if refusal is None else refusal.wait_seconds

    @property
    def used(self) -> tuple[int, int]:
        return used(self.limits, self.principal, self.wall)


def used(limits: PrincipalLimits, principal: str, wall: datetime) -> tuple[int, int]:
    """Tokens of the current day and month, reservations included."""
    sums, today = limits.sums().get(principal) or TokenSums.none(), day_of(wall)
    day, month = sums.days.counted_in(today), sums.months.counted_in(month_of(today))
    return sums.days.total(day), sums.months.total(month)


def running_of(limits: PrincipalLimits, principal: str) -> int:
    usage = limits._usages.get(principal)
    return 0 if usage is None else usage.running


def test_without_limits_everything_is_admitted_and_counted() -> None:
    app = Driver()
    for _ in range(100):
        with app.admit(10) as admission:
            assert admission.headers() == {}
            admission.settle(12, app.mono)
    assert app.used == (1200, 1200)


def test_requests_per_minute() -> None:
    app = Driver(requests_per_minute=2)
    app.use(0)
    app.use(0)
    refusal = app.refuse()
    assert (refusal.kind, refusal.limit, refusal.wait_seconds, refusal.retry_after) == (
        "requests_per_minute",
        2,
        30,
        30,
    )
    assert refusal.message == "The limit of 2 requests per minute is reached. Try again in 30s."
    app.later(30)
    app.use(0)
    assert app.refuse().kind == "requests_per_minute"


def test_tokens_per_minute() -> None:
    app = Driver(tokens_per_minute=600)
    app.use(500)
    refusal = app.refuse(200)
    assert (refusal.kind, refusal.wait_seconds, refusal.retry_after) == ("tokens_per_minute", 10, 10)
    assert refusal.message == ("The request may use 200 tokens, and 100 of 600 per minute are left. Try again in 10s.")
    app.use(100)
    app.later(10)
    app.use(100)


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    app = Driver(tokens_per_minute=6000)
    app.use(6000)
    assert app.refuse(1).retry_after == 1
    assert app.refuse(101).retry_after == 2


def test_an_estimate_above_the_whole_limit_counts_as_the_whole() -> None:
    app = Driver(tokens_per_minute=600, tokens_per_day=5000, tokens_per_month=5000)
    admission = app.admit(10_000)
    assert app.refuse(1).kind in ("tokens_per_day", "tokens_per_month")
    admission.settle(300, app.mono)
    refusal = Driver(app.limits, tokens_per_minute=600).refuse(10_000)
    assert (refusal.kind, refusal.wait_seconds) == ("tokens_per_minute", 30)
    app.later(30)
    assert app.refuse(10_000).kind == "tokens_per_month"
    app.later(2 * DAY_SECONDS)
    app.admit(10_000)


def test_settling_gives_back_what_was_reserved_too_much() -> None:
    app = Driver(tokens_per_minute=600, tokens_per_day=1000)
    admission = app.admit(600)
    app.refuse(1)
    admission.settle(100, app.mono)
    assert app.used == (100, 100)
    app.use(500)


def test_settling_charges_what_was_reserved_too_little_as_debt() -> None:
    app = Driver(tokens_per_minute=600, tokens_per_day=100_000)
    app.admit(10).settle(1200, app.mono)
    assert app.used == (1200, 1200)
    refusal = app.refuse(1)
    assert refusal.wait_seconds == pytest.approx(60.1)
    assert refusal.headers()["x-ratelimit-remaining-tokens"] == "0"
    app.later(60.1)
    app.use(1)


def test_leaving_without_settling_gives_the_reservation_back_but_not_the_request() -> None:
    app = Driver(requests_per_minute=1, tokens_per_minute=600, tokens_per_day=600)
    with pytest.raises(KeyboardInterrupt), app.admit(600):
        assert app.used == (600, 600)
        raise KeyboardInterrupt
    assert app.used == (0, 0)
    assert running_of(app.limits, "app") == 0
    assert app.refuse(600).kind == "requests_per_minute"


def test_a_request_ends_once() -> None:
    app = Driver(concurrent_max=1)
    admission = app.admit(10)
    with admission:
        admission.settle(10, app.mono)
    admission.release()
    assert running_of(app.limits, "app") == 0
    assert app.used == (10, 10)
    with pytest.raises(AssertionError):
        admission.settle(10, app.mono)


def test_requests_at_once() -> None:
    app = Driver(concurrent_max=2)
    first, second = app.admit(), app.admit()
    refusal = app.refuse()
    assert (refusal.kind, refusal.limit, refusal.retry_after) == ("concurrent", 2, 1)
    assert refusal.message == "2 requests are running, and 2 may at once. Try again when one has ended."
    first.release()
    app.admit().release()
    second.settle(0, app.mono)
    assert running_of(app.limits, "app") == 0


def test_what_is_refused_costs_nothing() -> None:
    app = Driver(requests_per_minute=10, tokens_per_minute=100, tokens_per_day=50)
    for _ in range(100):
        app.refuse(51) if app.used[0] else app.use(50)
    assert app.used == (50, 50)
    headers = app.refuse(1).headers()
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert headers["x-ratelimit-remaining-tokens"] == "50"


def test_a_day_and_a_month_are_those_of_utc() -> None:
    app = Driver(tokens_per_day=100)
    app.wall = datetime(2026, 3, 30, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    app.use(90)
    refusal = app.refuse(20)
    assert (refusal.kind, refusal.wait_seconds, refusal.retry_after) == ("tokens_per_day", 1800, 1800)
    assert refusal.message == (
        "The request may use 20 tokens, and 10 of 100 per day are left. The next day begins at 2026-03-30 00:00 UTC."
    )
    app.use(10)
    app.later(1800)
    app.use(100)


def test_the_month_outlives_the_day() -> None:
    app = Driver(tokens_per_day=100, tokens_per_month=150)
    app.use(100)
    app.later(DAY_SECONDS)
    refusal = app.refuse(100)
    assert (refusal.kind, refusal.wait_seconds) == ("tokens_per_month", DAY_SECONDS / 2)
    assert refusal.message.endswith("50 of 150 per month are left. The next month begins at 2026-04-01 00:00 UTC.")
    app.later(DAY_SECONDS)
    app.use(100)


def test_the_longest_refusal_is_told() -> None:
    app = Driver(requests_per_minute=1, tokens_per_minute=60, tokens_per_day=60, concurrent_max=1)
    admission = app.admit(60)
    assert app.refuse(30).kind == "tokens_per_day"
    app.settings = PrincipalSettings(requests_per_minute=1, tokens_per_minute=60, concurrent_max=1)
    assert app.refuse(30).kind == "requests_per_minute"
    app.later(59.5)
    assert app.refuse(30).kind == "concurrent"
    admission.release()


def test_tokens_count_in_the_day_in_which_the_request_began() -> None:
    app = Driver(tokens_per_day=100)
    admission = app.admit(50)
    app.later(DAY_SECONDS)
    admission.settle(80, app.mono)
    assert app.used == (0, 80)
    app.later(-DAY_SECONDS)
    assert app.used == (80, 80)


def test_a_clock_that_goes_back_gives_no_quota_twice() -> None:
    app = Driver(tokens_per_day=100)
    app.use(100)
    app.wall += timedelta(days=1)
    app.use(100)
    app.wall -= timedelta(days=1)
    assert app.refuse(1).kind == "tokens_per_day"
    app.wall += timedelta(days=1)
    assert app.refuse(1).kind == "tokens_per_day"
    app.wall += timedelta(days=1)
    app.use(100)


def test_headers_are_openais() -> None:
    app = Driver(requests_per_minute=60, tokens_per_minute=6000)
    assert app.admit(1500).headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "4500",
        "x-ratelimit-reset-tokens": "15s",
    }
    refusal = app.refuse(6000)
    assert refusal.headers()["retry-after"] == "15"
    error = refusal.error()
    assert (error.status, error.code, error.retry_after) == (429, "too_many_requests", 15)
    assert error.details == {"limit": "tokens_per_minute"}


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"tokens_per_day": 100, "tokens_per_month": 5000}, ("100", "90", "12h0m0s")),
        ({"tokens_per_month": 5000}, ("5000", "4990", "36h0m0s")),
    ],
)
def test_headers_without_tokens_per_minute_are_of_the_next_longer_limit(
    settings: dict[str, Any], headers: tuple[str, ...]
) -> None:
    found = Driver(**settings).admit(10).headers()
    assert tuple(found[f"x-ratelimit-{name}-tokens"] for name in ("limit", "remaining", "reset")) == headers


def test_a_reload_keeps_debt_and_sums() -> None:
    app = Driver(tokens_per_minute=600, tokens_per_day=10_000)
    app.admit(0).settle(1200, app.mono)
    reloads: list[dict[str, Any]] = [
        {"tokens_per_minute": 6000},
        {"tokens_per_minute": 60},
        {},
        {"tokens_per_minute": 600},
    ]
    for settings in reloads:
        app.settings = PrincipalSettings(**settings)
        app.wait_seconds(0)
    assert app.refuse(0).wait_seconds == pytest.approx(60)
    app.settings = PrincipalSettings(tokens_per_day=1200)
    assert app.refuse(1).kind == "tokens_per_day"


def test_a_limit_that_comes_while_a_request_runs_is_charged_for_it() -> None:
    app = Driver()
    admission = app.admit(100)
    app.settings = PrincipalSettings(tokens_per_minute=600)
    app.use(600)
    admission.settle(100, app.mono)
    assert app.refuse(0).wait_seconds == pytest.approx(10)


def test_a_check_says_what_admit_would_and_takes_nothing() -> None:
    app = Driver(tokens_per_minute=600)
    for _ in range(5):
        assert app.wait_seconds(600) == 0
    app.use(600)
    assert app.wait_seconds(60) == 6
    assert app.refuse(60).wait_seconds == 6


def test_the_end_of_a_request_is_told() -> None:
    app = Driver()
    ended: list[str] = []
    app.limits.released = ended.append
    with app.admit():
        pass
    app.use(5)
    assert ended == ["app", "app"]


def test_principals_do_not_share_limits() -> None:
    app = Driver(requests_per_minute=1)
    app.use(0)
    app.refuse()
    Driver(app.limits, "other", requests_per_minute=1).use(0)


def test_idle_principals_are_forgotten_but_for_their_sums() -> None:
    limits = PrincipalLimits()
    busy = Driver(limits, "busy", tokens_per_minute=60)
    busy.admit(0).settle(60_000, busy.mono)
    running = Driver(limits, "running").admit(0)
    for number in range(2000):
        other = Driver(limits, f"p{number}", requests_per_minute=60, tokens_per_day=10)
        other.mono += number
        other.use(5)
    assert len(limits._usages) <= 130
    busy.later(2000)
    assert busy.refuse(1).kind == "tokens_per_minute"
    assert running_of(limits, "running") == 1
    running.release()
    assert used(limits, "p0", NOON) == (5, 5)
    assert Driver(limits, "p0", tokens_per_day=10).refuse(6).kind == "tokens_per_day"


def test_sums_are_of_so_many_principals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "PRINCIPALS_MAX", 100)
    limits = PrincipalLimits()
    running = Driver(limits, "running").admit(7)
    for number in range(1000):
        Driver(limits, f"p{number}").use(1)
        Driver(limits, "steady").use(1)
    sums = limits.sums()
    assert len(sums) <= 100 + 64 * 3
    assert "p0" not in sums
    assert used(limits, "steady", NOON) == (1000, 1000)
    running.settle(9, 1000)
    assert used(limits, "running", NOON) == (9, 9)


def test_sums_go_on_in_the_next_process() -> None:
    app = Driver(tokens_per_day=100)
    app.use(60)
    snapshot = app.limits.sums()
    app.use(40)
    next_limits = PrincipalLimits()
    next_limits.restore(snapshot)
    again = Driver(next_limits, tokens_per_day=100)
    assert again.used == (60, 60)
    again.use(40)
    again.refuse(1)
    assert snapshot["app"].days.total(NOON.date()) == 60


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "settle", "release", "wait"]),
        st.integers(0, 400),
        st.floats(min_value=0, max_value=90),
    ),
    max_size=80,
)


@given(STEPS)
def test_what_is_admitted_is_what_the_limits_allow(steps: list[tuple[str, int, float]]) -> None:
    """With true estimates there is no debt, and never more than bucket and refill; everything is given back."""
    app = Driver(requests_per_minute=30, tokens_per_minute=600, tokens_per_day=2000, concurrent_max=3)
    running: list[tuple[Admission, int]] = []
    began, spent, admitted = app.mono, 0, 0
    for action, tokens, seconds in steps:
        if action == "wait":
            app.later(seconds)
        elif action == "admit":
            wait = app.wait_seconds(tokens)
            outcome = app.ask(tokens)
            assert (wait == 0) == isinstance(outcome, Admission)
            if isinstance(outcome, Admission):
                running.append((outcome, tokens))
                admitted += 1
        elif running:
            admission, tokens = running.pop(tokens % len(running))
            if action == "settle":
                admission.settle(tokens, app.mono)
                spent += tokens
            else:
                admission.release()
        assert running_of(app.limits, "app") == len(running) <= 3
        assert app.used[0] == spent + sum(tokens for _, tokens in running) <= 2000
        assert spent <= 600 + 10 * (app.mono - began) + 0.1
        assert admitted <= 30 + (app.mono - began) / 2 + 0.1
