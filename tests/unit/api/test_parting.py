from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from appliance.api import parting
from appliance.api.parting import Parting
from tests.waiting import until


@dataclass
class Line:
    """A client's connection. idle_since: on the loop's clock; None while it is busy."""

    idle_since: float | None
    ended: bool = False

    def force_close(self) -> None:
        self.ended = True


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_nothing_is_closed_before_the_stop() -> None:
    gone = Parting()
    assert not gone.begun
    assert gone.seconds_left == 0


async def test_a_stop_without_clients_takes_no_time() -> None:
    gone = Parting()
    gone.begin(30)
    assert gone.begun
    began = time.monotonic()
    await gone.wait(list)
    assert time.monotonic() - began < 20
    assert 0 < gone.seconds_left <= 30


async def test_the_idle_are_closed_after_some_silence_since_the_stop_and_the_busy_are_waited_for() -> None:
    """A client may turn to one that it has not used for long, now that its others are closed."""
    gone = Parting()
    gone.begin(600)
    began = now()
    long_idle, just_idle, busy = Line(began - 5), Line(began + 0.1), Line(None)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(gone.wait(lambda: [long_idle, just_idle, busy]))
        for line, silent_from in ((long_idle, began), (just_idle, began + 0.1)):
            await until(lambda line=line: line.ended)  # type: ignore[misc]
            assert now() - silent_from >= parting.IDLE_SECONDS
        assert (busy.ended, waiting.done()) == (False, False)
        busy.ended = True


async def test_silence_counts_anew_where_the_process_was_held_up() -> None:
    """Its clients may have been as well."""
    gone = Parting()
    gone.begin(600)
    silent = Line(now())
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(gone.wait(lambda: [silent]))
        await asyncio.sleep(0.05)
        # The whole process, as when its virtual machine is paused.
        time.sleep(parting.IDLE_SECONDS + parting.LATE_SECONDS)  # noqa: ASYNC251
        went_on = now()
        await until(lambda: silent.ended)
        assert now() - went_on > parting.IDLE_SECONDS - 0.1


async def test_the_wait_ends_with_the_time() -> None:
    gone, busy = Parting(), Line(None)
    gone.begin(0.05)
    await gone.wait(lambda: [busy])
    assert (busy.ended, gone.seconds_left) == (False, 0)


async def test_the_wait_ends_where_somebody_hurries() -> None:
    gone, busy = Parting(), Line(None)
    gone.begin(30)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(gone.wait(lambda: [busy]))
        await asyncio.sleep(0.01)
        gone.hurry()
    assert gone.seconds_left == 0
