"""appliance.alerting.history"""

from __future__ import annotations

from appliance.alerting.history import KEPT_SECONDS, SPACING_SECONDS, STARTS_MAX, History
from appliance.telemetry.snapshot import AuditFigures, GpuFigures
from tests.unit.alerting.making import START, snapshot


def test_a_counter_grows_since_it_is_known() -> None:
    history = History()
    history.add(snapshot(START, auth_failures=1000))
    assert history.increase("auth_failures", seconds=300) == 0
    for second in range(1, 301):
        history.add(snapshot(START + second, auth_failures=1000 + 2 * second))
    assert history.increase("auth_failures", seconds=300) == 600
    assert history.increase("auth_failures", seconds=100) == 200
    assert history.increase("unknown", seconds=100) == 0


def test_a_counter_that_began_anew_and_a_clock_that_was_set_back_are_no_increase() -> None:
    history = History()
    history.add(snapshot(START + 10, audit=AuditFigures(failures=5)))
    history.add(snapshot(START + 20, audit=AuditFigures(failures=1)))
    assert history.increase("audit_write_errors", seconds=300) == 0
    history.add(snapshot(START - 5000, audit=AuditFigures(failures=9)))
    assert history.increase("audit_write_errors", seconds=300) == 0
    history.add(snapshot(START - 4990, audit=AuditFigures(failures=11)))
    assert history.increase("audit_write_errors", seconds=300) == 2


def test_every_gpu_counts_by_itself() -> None:
    history = History()
    for count in (0, 1):
        gpus = (GpuFigures(uuid="a", name="A", xid_errors=count), GpuFigures(uuid="b", name="B", xid_errors=0))
        history.add(snapshot(START + 10 * count, gpus=gpus))
    assert history.increase("xid_errors", "a", seconds=600) == 1
    assert history.increase("xid_errors", "b", seconds=600) == 0


def test_it_forgets() -> None:
    history = History(START - 10_000 + each for each in range(3 * STARTS_MAX))
    for second in range(2000):
        history.add(snapshot(START + second))
    assert len(history._samples) <= KEPT_SECONDS / SPACING_SECONDS + 1
    assert history.starts == (START,)


def test_restarts_are_starts_that_follow_another() -> None:
    assert History().restarts == 0
    history = History((START - 100_000, START - 300, START - 200))
    history.add(snapshot(START + 1))
    assert history.restarts == 3
    assert history.starts[0] == START - 100_000
    history.add(snapshot(START + KEPT_SECONDS - 250))
    assert history.restarts == 2
    first = History()
    first.add(snapshot(START + 1))
    assert first.restarts == 0
