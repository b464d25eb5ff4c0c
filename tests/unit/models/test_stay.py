"""appliance.models.stay, on a clock of its own"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.models.stay import Stay


class Alarm:
    """A timer that goes off when the clock is set to its time or beyond."""

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Room:
    """A stay, its clock, and when it expired."""

    def __init__(self) -> None:
        self.now = 100.0
        self.alarms: list[Alarm] = []
        self.ends: list[float] = []
        self.stay = Stay(lambda: self.ends.append(self.now), lambda: self.now, self._call_later)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(self.now + seconds, call))
        return self.alarms[-1]

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for alarm in self.alarms:
            if alarm.at <= self.now and alarm.call is not None:
                call, alarm.call = alarm.call, None
                call()


def test_it_expires_so_long_after_its_last_use() -> None:
    room = Room()
    room.stay.use(10)
    room.wait(4)
    room.stay.use(10)
    room.stay.let_expire()
    assert (room.stay.idle_seconds, room.stay.seconds_left) == (0, 10)
    room.wait(6)
    assert (room.stay.idle_seconds, room.stay.seconds_left, room.ends) == (6, 4, [])
    room.wait(4)
    assert (room.ends, room.stay.seconds_left) == ([114.0], None)


def test_the_longest_wish_counts_until_it_is_loaded_anew() -> None:
    room = Room()
    room.stay.use(60)
    room.stay.use(1)
    room.stay.let_expire()
    assert room.stay.seconds_left == 60
    room.stay.begin_anew()
    room.stay.use(1)
    room.stay.let_expire()
    assert room.stay.seconds_left == 1


def test_without_an_end_it_never_expires() -> None:
    room = Room()
    room.stay.use(5)
    room.stay.use(None)
    room.stay.let_expire()
    assert room.stay.seconds_left is None and room.alarms == []


def test_while_it_is_held_it_does_not_expire() -> None:
    room = Room()
    room.stay.use(5)
    room.stay.let_expire()
    room.stay.hold()
    room.wait(100)
    assert room.ends == []
    room.stay.let_expire()
    assert room.stay.seconds_left == 0
    room.wait(0)
    assert room.ends == [200.0]


@given(st.lists(st.tuples(st.sampled_from(["use", "hold", "let", "wait"]), st.floats(0, 50)), max_size=40))
def test_it_never_expires_early_and_waits_for_one_end_at_a_time(acts: list[tuple[str, float]]) -> None:
    room, due = Room(), 0.0
    for act, seconds in acts:
        match act:
            case "use":
                room.stay.use(seconds)
                due = max(due, room.now + seconds)
            case "hold":
                room.stay.hold()
            case "let":
                room.stay.let_expire()
            case _:
                before = len(room.ends)
                room.wait(seconds)
                assert all(end >= due or end == pytest.approx(due) for end in room.ends[before:])
        assert sum(alarm.call is not None for alarm in room.alarms) <= 1
