"""appliance.worker.hardware"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.errors import WireError
from appliance.wire import Abort, Hardware, ToWorker, WatchHardware
from appliance.worker.hardware import RETRY_SECONDS, Sampler, network_bytes, watch_hardware
from appliance.worker.host_memory import Room
from appliance.worker.nvml import Nvml, open_nvml
from tests.fakes.nvml import VARIABLE, fake_nvml


class Machine:
    """A clock, a driver that may be missing, and what was asked of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_nvml()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self._monkeypatch = monkeypatch
        self.now = 100.0
        self.received = 0
        self.opened = 0
        self.driver("well")

    def driver(self, words: str) -> None:
        """What is wrong with it."""
        self._monkeypatch.setenv(VARIABLE, words)

    def open(self) -> Nvml:
        self.opened += 1
        return open_nvml()

    def sampler(self) -> Sampler:
        return Sampler(
            self.open,
            lambda: Room(1000, 600),
            lambda: 150.0,
            lambda: self.now,
            lambda: (self.received, 2 * self.received),
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_reading_of_host_and_gpus(machine: Machine) -> None:
    reading = machine.sampler().read()
    assert (reading.host.total_bytes, reading.host.available_bytes, reading.host.cpu_busy) == (1000, 600, 1.0)
    assert reading.host.cpu_count is not None and reading.host.swap_used_bytes is not None
    assert [gpu.name for gpu in reading.gpus] == ["Card 0", "Card 1"]
    assert reading.gpu_trouble is None


def test_network_rates_need_two_readings(machine: Machine) -> None:
    sampler = machine.sampler()
    first = sampler.read().host
    assert (first.receive_bytes_per_second, first.transmit_bytes_per_second) == (None, None)
    machine.now, machine.received = machine.now + 2.0, 3000
    second = sampler.read().host
    assert (second.receive_bytes_per_second, second.transmit_bytes_per_second) == (1500.0, 3000.0)
    # An interface that was taken away takes its count with it.
    machine.now, machine.received = machine.now + 2.0, 10
    assert sampler.read().host.receive_bytes_per_second is None


def test_a_driver_that_is_missing_is_looked_for_again_later(machine: Machine) -> None:
    machine.driver("not_loaded")
    sampler = machine.sampler()
    assert sampler.read().gpu_trouble == sampler.read().gpu_trouble
    assert machine.opened == 1
    machine.driver("well")
    machine.now += RETRY_SECONDS
    found = sampler.read()
    assert len(found.gpus) == 2 and found.gpu_trouble is None


def test_a_driver_that_fails_is_opened_anew(machine: Machine) -> None:
    sampler = machine.sampler()
    sampler.read()
    machine.driver("broken")
    failed = sampler.read()
    assert failed.gpus == () and "cannot be asked" in (failed.gpu_trouble or "")
    machine.driver("well")
    machine.now += RETRY_SECONDS
    assert len(sampler.read().gpus) == 2 and machine.opened == 2


def test_the_real_machine_has_figures_of_its_network() -> None:
    counts = network_bytes()
    assert counts is not None and min(counts) >= 0


def test_it_reports_at_once_and_then_at_its_interval_until_the_daemon_goes(machine: Machine) -> None:
    sent: list[Hardware] = []

    def wakes() -> Iterator[ToWorker | None]:
        for _ in range(6):
            machine.now += 1.0
            yield None

    watch_hardware(WatchHardware(interval_seconds=2), wakes(), sent.append, machine.sampler(), lambda: machine.now)
    assert len(sent) == 4


def test_nothing_else_is_asked_of_it(machine: Machine) -> None:
    with pytest.raises(WireError, match="unexpected Abort"):
        watch_hardware(
            WatchHardware(interval_seconds=2), iter([Abort(number=1)]), lambda _: None, machine.sampler(), lambda: 0.0
        )
