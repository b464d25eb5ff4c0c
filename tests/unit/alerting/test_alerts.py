"""appliance.alerting.alerts: a life of an alert, second by second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.alerting.alerts import (
    ALERTS_MAX,
    KEPT_SECONDS,
    RESOLVE_SECONDS,
    Alert,
    AlertKey,
    Silence,
    SilenceKey,
    Timing,
    acked,
    advance,
    due,
    figures,
    told,
)
from appliance.alerting.rules import Condition
from tests.unit.alerting.making import condition

TIMING = Timing({"GpuHot": 300.0, "Slow": 10.0}, repeat_seconds=3600.0)
HOT = ("GpuHot", "g0")


class Life:
    """Alerts over time, and what was told of them."""

    def __init__(self, timing: Timing = TIMING) -> None:
        self.timing = timing
        self.alerts: dict[AlertKey, Alert] = {}
        self.silences: dict[SilenceKey, Silence] = {}
        self.told: list[tuple[float, str]] = []

    def at(self, now: float, *found: Condition) -> None:
        self.alerts = advance(self.alerts, found, now, self.timing)
        for notice in due(self.alerts, self.silences, now, self.timing):
            self.alerts[notice.alert.key] = told(notice.alert, now)
            self.told.append((now, notice.kind))

    def state(self, key: AlertKey = HOT) -> str | None:
        return self.alerts[key].state if key in self.alerts else None


def test_it_fires_after_its_time_and_is_told_once_and_once_when_over() -> None:
    life = Life()
    for now in range(300):
        life.at(now, condition())
        assert life.state() == "pending"
    for now in range(300, 400):
        life.at(now, condition(summary=f"{now}"))
    assert life.state() == "firing"
    assert life.alerts[HOT].since == 300
    assert life.alerts[HOT].summary == "399"
    for now in range(400, 400 + int(RESOLVE_SECONDS)):
        life.at(now)
        assert life.state() == "firing"
    for now in range(460, 600):
        life.at(now)
    assert life.state() == "resolved"
    assert life.told == [(300, "firing"), (460, "resolved")]
    life.at(460 + KEPT_SECONDS)
    assert life.state() is None


def test_what_goes_before_its_time_was_nothing() -> None:
    life = Life()
    life.at(0, condition())
    life.at(299)
    life.at(300, condition())
    assert life.state() == "pending"
    assert life.told == []


def test_a_short_gap_is_no_end() -> None:
    life = Life(Timing({}, 0.0))
    for now in range(600):
        life.at(now, *([condition()] if now % 50 < 5 else []))
    assert life.told == [(0, "firing")]


def test_it_is_repeated_while_it_goes_on() -> None:
    life = Life(Timing({}, repeat_seconds=100.0))
    for now in range(250):
        life.at(now, condition())
    assert life.told == [(0, "firing"), (100, "repeated"), (200, "repeated")]


def test_an_acknowledged_warning_is_quiet_a_critical_one_is_not() -> None:
    life = Life(Timing({}, repeat_seconds=100.0))
    both = (condition(), condition("Dead", "x", "critical"))
    life.at(0, *both)
    for key, alert in life.alerts.items():
        life.alerts[key] = acked(alert, "anna", "looking", 1.0)
    life.at(100, *both)
    assert life.told == [(0, "firing"), (0, "firing"), (100, "repeated")]
    shown = figures(life.alerts["Dead", "x"], {}, 100.0)
    assert (shown.state, shown.since, shown.acked_by, shown.note) == ("acked", 1.0, "anna", "looking")
    for now in range(101, 200):
        life.at(now)
    assert [kind for _, kind in life.told[3:]] == ["resolved", "resolved"]


def test_a_note_of_before_does_not_count_when_it_comes_back() -> None:
    life = Life(Timing({}, 0.0))
    life.at(0, condition())
    life.alerts[HOT] = acked(life.alerts[HOT], "anna", "looking", 0.0)
    life.at(1)
    life.at(100)
    life.at(200, condition())
    assert life.state() == "firing"
    assert life.alerts[HOT].acked_by is None
    assert [kind for _, kind in life.told] == ["firing", "resolved", "firing"]


def test_silence_puts_off_what_is_told() -> None:
    life = Life(Timing({}, repeat_seconds=3600.0))
    everything = Silence(name="GpuHot", what="", until=100.0, by="anna", reason="new fans")
    life.silences = {everything.key: everything}
    life.at(0, condition(), condition("Other"))
    assert len(life.told) == 1
    assert figures(life.alerts[HOT], life.silences, 0.0).silenced_until == 100.0
    life.at(99, condition())
    life.at(101, condition())
    assert life.told[1:] == [(101, "firing")]
    # Over while it is silent: told afterwards, where it was told at all.
    this = Silence(name="GpuHot", what="g0", until=400.0, by="anna", reason="again")
    life.silences = {this.key: this}
    for now in (200, 300, 399):
        life.at(now)
    assert life.state() == "resolved"
    life.at(401)
    assert (401, "resolved") in life.told
    assert [kind for _, kind in life.told].count("firing") == 2


def test_one_that_comes_back_before_it_was_told_that_it_is_over_is_the_same() -> None:
    life = Life(Timing({"GpuHot": 10.0}, 0.0))
    for now in range(20):
        life.at(now, condition())
    quiet = Silence(name="GpuHot", what="", until=500.0, by="anna", reason="")
    life.silences = {quiet.key: quiet}
    for now in (21, 100):
        life.at(now)
    life.at(101, condition())
    life.at(102)
    assert life.state() == "resolved"
    life.at(501)
    assert [kind for _, kind in life.told] == ["firing", "resolved"]


def test_there_is_a_limit() -> None:
    life = Life(Timing({}, 0.0))
    life.at(0, *(condition(what=f"g{number}") for number in range(ALERTS_MAX + 10)))
    assert len(life.alerts) == ALERTS_MAX


@given(st.lists(st.tuples(st.floats(0.1, 200), st.booleans()), max_size=60))
def test_firing_and_resolved_are_told_in_turn(steps: list[tuple[float, bool]]) -> None:
    life, now = Life(Timing({"GpuHot": 30.0}, repeat_seconds=0.0)), 0.0
    for seconds, holds in steps:
        now += seconds
        life.at(now, *([condition()] if holds else []))
    kinds = [kind for _, kind in life.told]
    assert kinds == ["firing", "resolved"] * (len(kinds) // 2) + ["firing"] * (len(kinds) % 2)
    assert (kinds[-1:] == ["firing"]) == (life.state() == "firing")
