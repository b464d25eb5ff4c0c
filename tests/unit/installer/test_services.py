from __future__ import annotations

from installer.services import wait_until_well


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_it_waits_until_all_is_well() -> None:
    clock = Clock()
    ill = lambda: None if clock.now >= 3 else "starting"  # noqa: E731
    assert wait_until_well(ill, lambda: False, 10, clock, clock.sleep) is None
    assert clock.now == 3


def test_it_gives_up_with_the_last_reason() -> None:
    clock = Clock()
    assert wait_until_well(lambda: f"{clock.now:.0f}", lambda: False, 10, clock, clock.sleep) == "10"


def test_it_gives_up_early_where_nothing_will_come_of_it() -> None:
    clock = Clock()
    assert wait_until_well(lambda: "ill", lambda: clock.now >= 2, 100, clock, clock.sleep) == "ill"
    assert clock.now == 2
