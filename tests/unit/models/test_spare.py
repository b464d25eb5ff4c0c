"""appliance.models.spare, with scripted workers"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from appliance.models.launcher import SpawnLauncher, WorkerLink
from appliance.models.spare import SpareLauncher
from appliance.types import ModelSpec
from appliance.wire import Load, Loaded
from tests.waiting import until

WORKER = (sys.executable, "-m", "tests.fakes.scripted_worker")
JOB = Load(spec=ModelSpec(id="m", path="/m"), load_seconds_max=10, step_seconds_max=10, template_seconds_max=1)


@pytest.fixture
async def launcher() -> AsyncIterator[SpareLauncher]:
    made = SpareLauncher(SpawnLauncher(WORKER))
    yield made
    await made.close()


async def spare_of(launcher: SpareLauncher) -> int:
    launcher.prepare()
    await until(lambda: launcher.pid is not None)
    assert launcher.pid is not None
    return launcher.pid


async def loads(link: WorkerLink) -> bool:
    link.send(JOB)
    async with asyncio.timeout(60):
        messages = await link.receive()
    await link.close()
    return isinstance(messages[0], Loaded)


async def test_a_spare_is_handed_out_once_and_there_is_no_other_until_it_is_asked_for(launcher: SpareLauncher) -> None:
    pid = await spare_of(launcher)
    launcher.prepare()
    link, other = await launcher.launch(), await launcher.launch()
    assert link.pid == pid != other.pid and launcher.pid is None
    assert await loads(link) and await loads(other)
    assert await spare_of(launcher) not in (pid, other.pid)


async def test_one_that_is_killed_is_not_used(launcher: SpareLauncher) -> None:
    pid = await spare_of(launcher)
    process = psutil.Process(pid)
    process.kill()
    # The event loop must not notice before it is asked for.
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)  # noqa: ASYNC251
    link = await launcher.launch()
    assert link.pid != pid and await loads(link)
    await until(lambda: launcher.pid is None)
    assert not psutil.pid_exists(pid), "nobody waited for it"
    assert await spare_of(launcher) != pid


async def test_one_that_speaks_before_its_job_is_ended(tmp_path: Path) -> None:
    may_speak, spoken = tmp_path / "may-speak", tmp_path / "spoken"
    speaks = f"""
import os, sys, time
while not os.path.exists({str(may_speak)!r}):
    time.sleep(0.005)
os.write(int(sys.argv[2]), b"word")
open({str(spoken)!r}, "w")
time.sleep(600)
"""
    launcher = SpareLauncher(SpawnLauncher((sys.executable, "-c", speaks)))
    launcher.prepare()
    await until(lambda: launcher.pid is not None)
    process = psutil.Process(launcher.pid)
    may_speak.touch()
    # Somebody who listens may end it in the middle of that.
    await until(lambda: spoken.exists() or launcher.pid != process.pid)
    link = await launcher.launch()
    assert link.pid != process.pid
    link.kill()
    await link.close()
    await until(lambda: launcher.pid is None and not process.is_running())
    await launcher.close()


async def test_one_of_another_environment_is_ended() -> None:
    environment = {"LANG": "C"}
    launcher = SpareLauncher(SpawnLauncher(WORKER), lambda: dict(environment))
    pid = await spare_of(launcher)
    environment["LANG"] = "C.UTF-8"
    link = await launcher.launch()
    assert link.pid != pid and await loads(link)
    await until(lambda: launcher.pid is None and not psutil.pid_exists(pid))
    await launcher.close()


async def test_closing_ends_it_and_no_other_comes(launcher: SpareLauncher) -> None:
    pid = await spare_of(launcher)
    await launcher.close()
    launcher.prepare()
    await asyncio.sleep(0)
    assert launcher.pid is None and not psutil.pid_exists(pid)


async def test_where_none_can_be_started_a_load_says_so() -> None:
    launcher = SpareLauncher(SpawnLauncher(("/nowhere/worker",)))
    launcher.prepare()
    await asyncio.sleep(0.05)
    with pytest.raises(OSError, match="nowhere"):
        await launcher.launch()
    await launcher.close()
