"""When the timer is set; that it ends a process is tested with a real worker in tests/engine."""

from __future__ import annotations

import faulthandler

import pytest

from appliance.worker.watchdog import StepWatchdog, ends_after


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What faulthandler was told: seconds, or None for a cancelled timer."""
    calls: list[float | None] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit: calls.append(seconds))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: calls.append(None))
    return calls


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_block_is_guarded_and_released(timers: list[float | None]) -> None:
    with ends_after(7):
        assert timers == [7]
    assert timers == [7, None]


def test_steps_share_a_timer_for_a_second(timers: list[float | None]) -> None:
    clock = Clock()
    watchdog = StepWatchdog(10, n_ubatch=512, clock=clock)
    for _ in range(9):
        watchdog.step(8)
        clock.now += 0.25
    assert timers == [11, 11, 11]


def test_a_large_step_gets_more_at_once(timers: list[float | None]) -> None:
    watchdog = StepWatchdog(10, n_ubatch=512, clock=Clock())
    watchdog.step(8)
    watchdog.step(2048)
    watchdog.step(8)
    assert timers == [11, 41]


def test_nothing_is_armed_while_idle(timers: list[float | None]) -> None:
    watchdog = StepWatchdog(10, n_ubatch=512, clock=Clock())
    watchdog.step(8)
    watchdog.rest()
    watchdog.step(8)
    assert timers == [11, None, 11]
