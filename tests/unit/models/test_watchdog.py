from __future__ import annotations

import asyncio
import socket

import pytest

from appliance.config import WorkerLimits
from appliance.errors import RequestError
from appliance.models.launcher import WorkerLink
from appliance.models.watchdog import Watchdog
from tests.waiting import until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Link(WorkerLink):
    """One with nobody at its end."""

    def __init__(self) -> None:
        self.killed = asyncio.Event()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        super().__init__(self._ours, None)

    def kill(self) -> None:
        self.killed.set()

    async def __aenter__(self) -> Link:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._theirs.close()
        await self.close()


def test_only_who_owes_a_word_is_silent() -> None:
    clock = Clock()
    watchdog = Watchdog("m", WorkerLimits(), clock)
    watchdog.begin()
    clock.now = 5
    assert watchdog.silent_seconds == 0
    watchdog.note_asked()
    clock.now = 7
    watchdog.note_asked()
    assert watchdog.silent_seconds == 2
    watchdog.note_heard(owes_more=True)
    clock.now = 10
    assert watchdog.silent_seconds == 3
    watchdog.note_heard(owes_more=False)
    assert watchdog.silent_seconds == 0
    watchdog.note_asked()
    watchdog.end()
    clock.now = 20
    assert watchdog.silent_seconds == 0


async def test_who_is_silent_for_too_long_is_ended() -> None:
    clock = Clock()
    watchdog = Watchdog("m", WorkerLimits(silence_seconds_max=0.02), clock)
    watchdog.note_asked()
    async with Link() as link, asyncio.TaskGroup() as group:
        watch = group.create_task(watchdog.watch_silence(link))
        await asyncio.sleep(0.05)
        assert not link.killed.is_set() and not watch.done()
        clock.now = 1
        await asyncio.wait_for(link.killed.wait(), 60)


@pytest.mark.parametrize(
    ("error", "killed"),
    [(TimeoutError(), True), (RequestError("kv_cache_full", "full"), False), (None, False)],
)
async def test_a_probe_without_an_answer_ends_it(error: Exception | None, killed: bool) -> None:
    watchdog = Watchdog("m", WorkerLimits(probe_seconds=0.01), asyncio.get_running_loop().time)
    probed = asyncio.Event()

    async def probe(seconds: float) -> None:
        probed.set()
        if error is not None:
            raise error

    async with Link() as link, asyncio.TaskGroup() as group:
        watch = group.create_task(watchdog.watch_health(link, probe, lambda: False))
        await asyncio.wait_for(probed.wait(), 60)
        await asyncio.sleep(0)
        watch.cancel()
        assert link.killed.is_set() is killed


async def test_who_is_busy_is_not_probed() -> None:
    asked = list[bool]()

    async def probe(seconds: float) -> None:
        raise AssertionError

    def busy() -> bool:
        asked.append(True)
        return True

    watchdog = Watchdog("m", WorkerLimits(probe_seconds=0.01), asyncio.get_running_loop().time)
    async with Link() as link, asyncio.TaskGroup() as group:
        watch = group.create_task(watchdog.watch_health(link, probe, busy))
        await until(lambda: len(asked) > 1)
        watch.cancel()
