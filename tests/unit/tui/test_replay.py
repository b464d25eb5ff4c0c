"""Moving through a recording."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from appliance.telemetry.snapshot import Snapshot
from tui.replay import Replay, moment_of

NOW = datetime(2026, 11, 20, 3, 14, 15, tzinfo=timezone(timedelta(hours=8)))


def replay(moment: float) -> Replay:
    return Replay([Snapshot(time=float(n), host_name="h", version="1", started=0.0) for n in range(100, 400)], moment)


def test_steps_and_minutes() -> None:
    made = replay(250.5)
    assert made.shown.time == 250
    assert made.step(1)
    assert made.skip(-60)
    assert made.shown.time == 191
    assert len(made.before) == 92


def test_the_end_of_the_stretch_is_said() -> None:
    made = replay(399)
    assert not made.step(1)
    assert made.shown.time == 399
    assert made.skip(-200)
    assert not made.skip(-120)
    assert made.shown.time == 100


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("02:30", "2026-11-20T02:30:00+08:00"),
        ("2:30:05", "2026-11-20T02:30:05+08:00"),
        ("04:00", "2026-11-19T04:00:00+08:00"),
        ("2026-11-19 22:00", "2026-11-19T22:00:00+08:00"),
        ("2026-11-19T22:00Z", "2026-11-20T06:00:00+08:00"),
        ("15m", "2026-11-20T02:59:15+08:00"),
        ("2h ago", "2026-11-20T01:14:15+08:00"),
        ("2026-11-21 22:00", None),
        ("25:00", None),
        ("soon", None),
    ],
)
def test_times_as_people_write_them(text: str, wanted: str | None) -> None:
    found = moment_of(text, NOW.timestamp(), NOW.tzinfo or UTC)
    expected = None if wanted is None else datetime.fromisoformat(wanted).timestamp()
    assert found == (None if expected is None or expected > NOW.timestamp() else expected)
