"""appliance.models.hardware, with the real worker on this machine, and with ones that end or fall silent"""

from __future__ import annotations

import asyncio
import sys

import psutil

from appliance.models.hardware import HardwareWatch
from appliance.models.launcher import SpawnLauncher
from appliance.placement.memory import memory_of
from tests.waiting import until

SILENT = (sys.executable, "-c", "import time; time.sleep(60)")
ENDS = (sys.executable, "-c", "pass")


def is_worker(process: psutil.Process) -> bool:
    return process.is_running() and "appliance.worker" in process.cmdline()


async def test_the_machine_is_read_and_a_worker_that_dies_is_replaced() -> None:
    watch = HardwareWatch(SpawnLauncher(), interval_seconds=1)
    others = psutil.Process().children()
    watch.start()
    try:
        async with asyncio.timeout(60):
            await watch.first.wait()
        assert watch.latest is not None
        memory = memory_of(watch.latest)
        assert memory.host.total_bytes <= psutil.virtual_memory().total
        assert 0 < memory.host.available_bytes <= memory.host.total_bytes
        assert (watch.latest.gpus == ()) is (watch.latest.gpu_trouble is not None)
        before = watch.read_at
        [worker] = [child for child in psutil.Process().children() if child not in others and is_worker(child)]
        assert not any("llama" in region.path for region in worker.memory_maps()), "it reads the machine alone"
        worker.kill()
        await until(lambda: watch.restarts == 1 and watch.read_at > before)
    finally:
        await watch.close()
    assert not worker.is_running()


async def test_a_worker_that_says_nothing_is_ended() -> None:
    watch = HardwareWatch(SpawnLauncher(SILENT), silence_seconds_max=0.2)
    watch.start()
    await until(lambda: watch.restarts >= 1)
    await watch.close()
    assert watch.latest is None and not watch.first.is_set()


async def test_one_that_ends_again_and_again_is_given_time() -> None:
    watch = HardwareWatch(SpawnLauncher(ENDS))
    watch.start()
    await until(lambda: watch.restarts >= 2)
    await asyncio.sleep(0.2)
    assert watch.restarts == 2
    await watch.close()
