"""appliance.security.limit_queue"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from appliance.access_config import PrincipalSettings
from appliance.security import limit_queue
from appliance.security.limit_queue import LimitQueue
from appliance.security.limits import Admission, PrincipalLimits
from appliance.security.principal_usage import LimitRefusal
from appliance.tasks import TaskOwner

# 100 tokens in a tenth of a second.
FAST = PrincipalSettings(tokens_per_minute=60_000)
ONE_AT_ONCE = PrincipalSettings(concurrent_max=1)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Desk:
    """A queue, and those who wait in it."""

    def __init__(self) -> None:
        self.limits = PrincipalLimits()
        self.queue = LimitQueue(self.limits, time.monotonic, lambda: NOON, waiters_max=20, waiters_per_principal_max=10)
        self.tasks = TaskOwner("test")
        self.served: list[str] = []

    def wait(
        self, name: str, settings: PrincipalSettings, tokens: int = 100, seconds: float = 60, principal: str = "app"
    ) -> asyncio.Task[Admission | LimitRefusal]:
        async def queue() -> Admission | LimitRefusal:
            outcome = await self.queue.admit(principal, settings, tokens, seconds)
            if isinstance(outcome, Admission):
                self.served.append(name)
            return outcome

        return self.tasks.spawn(queue(), name=name)

    def empty_bucket(self, settings: PrincipalSettings, principal: str = "app") -> None:
        outcome = self.limits.admit(principal, settings, 10**9, time.monotonic(), NOON)
        assert isinstance(outcome, Admission)
        outcome.settle(settings.tokens_per_minute or 0, time.monotonic())


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.tasks.close()
    assert desk.queue.waiting == 0
    assert not desk.queue._lines


async def test_room_is_given_at_once(desk: Desk) -> None:
    assert isinstance(await desk.wait("a", FAST), Admission)
    assert desk.queue.waiting == 0


async def test_who_waits_is_admitted_in_order(desk: Desk) -> None:
    began = time.perf_counter()
    desk.empty_bucket(FAST)
    tasks = [desk.wait(str(number), FAST, tokens) for number, tokens in enumerate([90, 10, 50, 1, 60])]
    assert all(isinstance(outcome, Admission) for outcome in await asyncio.gather(*tasks))
    assert time.perf_counter() - began > 0.2
    assert desk.served == ["0", "1", "2", "3", "4"]


async def test_principals_do_not_wait_for_each_other(desk: Desk) -> None:
    desk.empty_bucket(FAST)
    slow = desk.wait("slow", FAST, 30_000)
    await asyncio.sleep(0)
    assert isinstance(await desk.wait("other", FAST, principal="other"), Admission)
    assert not slow.done()


async def test_a_newcomer_does_not_overtake(desk: Desk) -> None:
    desk.empty_bucket(FAST)
    first = desk.wait("first", FAST, 200)
    await asyncio.sleep(0.05)
    second = desk.wait("second", FAST, 1)
    await asyncio.gather(first, second)
    assert desk.served == ["first", "second"]


async def test_the_end_of_a_request_wakes_the_next(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not admitted at the next look, a second later: here nobody looks."""
    monkeypatch.setattr(limit_queue, "_sleep", lambda turn, seconds: turn.wait())
    running = await desk.wait("running", ONE_AT_ONCE)
    assert isinstance(running, Admission)
    waiting = desk.wait("waiting", ONE_AT_ONCE)
    await asyncio.sleep(0.05)
    assert desk.queue.waiting == 1
    running.settle(5, time.monotonic())
    async with asyncio.timeout(30):
        assert isinstance(await waiting, Admission)


async def test_waiting_has_an_end(desk: Desk) -> None:
    await desk.wait("running", ONE_AT_ONCE)
    began = time.perf_counter()
    first, second = desk.wait("a", ONE_AT_ONCE, seconds=0.1), desk.wait("b", ONE_AT_ONCE, seconds=0.15)
    for outcome in await asyncio.gather(first, second):
        assert isinstance(outcome, LimitRefusal)
        assert outcome.kind == "concurrent"
    assert time.perf_counter() - began > 0.1


async def test_who_would_wait_in_vain_is_refused_at_once(desk: Desk) -> None:
    """Who is not waits for 40 s in one case here, for a minute in the other."""
    desk.empty_bucket(FAST)
    began = time.perf_counter()
    outcome = await desk.wait("a", FAST, 60_000, seconds=40)
    assert isinstance(outcome, LimitRefusal)
    assert outcome.kind == "tokens_per_minute"
    used_up = PrincipalSettings(tokens_per_day=1)
    desk.limits.admit("app", used_up, 1, time.monotonic(), NOON)
    outcome = await desk.wait("b", used_up)
    assert isinstance(outcome, LimitRefusal)
    assert outcome.kind == "tokens_per_day"
    assert time.perf_counter() - began < 30


async def test_one_who_sees_in_line_that_it_is_in_vain_leaves(desk: Desk) -> None:
    desk.empty_bucket(FAST)
    # It needs just under 40 s when it comes, and a fifth of a second more once the first one has had its turn.
    first = desk.wait("first", FAST, 200)
    second = desk.wait("second", FAST, 39_990, seconds=40)
    third = desk.wait("third", FAST, 10)
    assert isinstance(await second, LimitRefusal)
    await asyncio.gather(first, third)
    assert desk.served == ["first", "third"]


async def test_who_is_cancelled_leaves_and_the_next_is_first(desk: Desk) -> None:
    running = await desk.wait("running", ONE_AT_ONCE)
    assert isinstance(running, Admission)
    first, second, third = (desk.wait(name, ONE_AT_ONCE) for name in "abc")
    await asyncio.sleep(0.02)
    second.cancel()
    first.cancel()
    running.release()
    assert isinstance(await third, Admission)
    assert (first.cancelled(), second.cancelled()) == (True, True)
    assert desk.limits._usages["app"].running == 1


async def test_a_cancellation_together_with_the_turn_loses_no_place(desk: Desk) -> None:
    """Woken and cancelled in one step of the loop: either admitted and told so, or gone and the next one's turn."""
    running = await desk.wait("running", ONE_AT_ONCE)
    assert isinstance(running, Admission)
    first, second = desk.wait("a", ONE_AT_ONCE), desk.wait("b", ONE_AT_ONCE)
    await asyncio.sleep(0.02)
    running.release()
    first.cancel()
    assert isinstance(await second, Admission)
    assert desk.limits._usages["app"].running == 1


async def test_so_many_wait_and_no_more(desk: Desk) -> None:
    for principal in ("x", "y", "z"):
        await desk.wait("running", ONE_AT_ONCE, principal=principal)
    for principal, count in (("x", 12), ("y", 8), ("z", 5)):
        tasks = [desk.wait(principal, ONE_AT_ONCE, principal=principal) for _ in range(count)]
        await asyncio.sleep(0.02)
        refused = [task for task in tasks if task.done() and isinstance(task.result(), LimitRefusal)]
        assert len(refused) == {"x": 2, "y": 0, "z": 3}[principal]
    assert desk.queue.waiting == 20
