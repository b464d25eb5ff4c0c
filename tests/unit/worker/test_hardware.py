"""appliance.worker.hardware"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.errors import WireError
from appliance.wire import Abort, Hardware, ToWorker, WatchHardware
from appliance.worker.hardware import RETRY_SECONDS, Sampler, watch_hardware
from appliance.worker.host_memory import Room
from appliance.worker.nvml import Nvml, NvmlError
from tests.fakes.nvml import FakeNvml


class Machine:
    """A clock, a driver that may be missing, and what was asked of them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.driver: FakeNvml | None = FakeNvml()
        self.opened = 0

    def open(self) -> Nvml:
        self.opened += 1
        if self.driver is None:
            raise NvmlError("no driver")
        return Nvml(self.driver, {})

    def sampler(self) -> Sampler:
        return Sampler(self.open, lambda: Room(1000, 600), lambda: 150.0, lambda: self.now)


def test_a_reading_of_host_and_gpus() -> None:
    reading = Machine().sampler().read()
    assert (reading.host.total_bytes, reading.host.available_bytes, reading.host.cpu_busy) == (1000, 600, 1.0)
    assert [gpu.name for gpu in reading.gpus] == ["Card 0", "Card 1"]
    assert reading.gpu_trouble is None


def test_a_driver_that_is_missing_is_looked_for_again_later() -> None:
    machine = Machine()
    machine.driver = None
    sampler = machine.sampler()
    assert sampler.read().gpu_trouble == sampler.read().gpu_trouble == "no driver"
    assert machine.opened == 1
    machine.driver = FakeNvml()
    machine.now += RETRY_SECONDS
    found = sampler.read()
    assert len(found.gpus) == 2 and found.gpu_trouble is None


def test_a_driver_that_fails_is_opened_anew() -> None:
    machine = Machine()
    sampler = machine.sampler()
    sampler.read()
    assert machine.driver is not None
    machine.driver.broken.add("Memory")
    failed = sampler.read()
    assert failed.gpus == () and "Memory went wrong" in (failed.gpu_trouble or "")
    assert machine.driver.closed == 1
    machine.driver.broken.clear()
    machine.now += RETRY_SECONDS
    assert len(sampler.read().gpus) == 2 and machine.opened == 2


def test_it_reports_at_once_and_then_at_its_interval_until_the_daemon_goes() -> None:
    machine = Machine()
    sent: list[Hardware] = []

    def wakes() -> Iterator[ToWorker | None]:
        for _ in range(6):
            machine.now += 1.0
            yield None

    watch_hardware(WatchHardware(interval_seconds=2), wakes(), sent.append, machine.sampler(), lambda: machine.now)
    assert len(sent) == 4


def test_nothing_else_is_asked_of_it() -> None:
    with pytest.raises(WireError, match="unexpected Abort"):
        watch_hardware(
            WatchHardware(interval_seconds=2), iter([Abort(number=1)]), lambda _: None, Machine().sampler(), lambda: 0.0
        )
