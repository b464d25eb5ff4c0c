"""appliance.security.principal_usage: its answers are tested through appliance.security.limits, in test_limits"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from appliance.access_config import PrincipalSettings
from appliance.security.period_sums import TokenSums
from appliance.security.principal_usage import PrincipalUsage, day_of, month_of


def test_days_and_months() -> None:
    assert day_of(datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))) == date(2025, 12, 31)
    assert month_of(date(2025, 12, 31)) == date(2025, 12, 1)
    with pytest.raises(AssertionError):
        day_of(datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("month", "seconds"),
    [(1, 31 * 86_400), (2, 28 * 86_400), (12, 31 * 86_400)],
    ids=["january", "february", "december"],
)
def test_a_month_ends_with_its_last_day(month: int, seconds: int) -> None:
    usage = PrincipalUsage("app", TokenSums.none())
    usage.follow(PrincipalSettings(tokens_per_month=5), 0, datetime(2026, month, 1, tzinfo=UTC))
    state = usage.tokens_state()
    assert state is not None
    assert state.reset_seconds == seconds


def test_who_runs_or_owes_is_not_idle() -> None:
    usage = PrincipalUsage("app", TokenSums.none())
    usage.follow(PrincipalSettings(requests_per_minute=60), 0, datetime(2026, 1, 1, tzinfo=UTC))
    assert usage.idle(0)
    assert usage.requests is not None
    usage.requests.charge(2, 0)
    assert (usage.idle(1), usage.idle(2)) == (False, True)
    usage.running = 1
    assert not usage.idle(2)
