"""appliance.worker.nvml, with a module in pynvml's place"""

from __future__ import annotations

from typing import Any

import pytest

from appliance.types import DeviceBytes, GpuReading
from appliance.worker.nvml import Nvml, NvmlError, own_device_bytes, visible
from tests.fakes.nvml import FakeNvml

READING = GpuReading(
    uuid="GPU-aa",
    name="Card 0",
    total_bytes=8000,
    free_bytes=6000,
    used_bytes=2000,
    busy=0.25,
    temperature_celsius=45,
    power_watts=120.5,
)


def test_a_reading_has_everything_in_our_units() -> None:
    session = Nvml(FakeNvml(), {})
    assert session.gpus()[0] == READING
    assert [gpu.uuid for gpu in session.gpus()] == ["GPU-aa", "GPU-bb"]


def test_what_a_gpu_has_no_sensor_for_is_left_out() -> None:
    first = Nvml(FakeNvml(broken={"Power", "Temperature", "Utilization"}), {}).gpus()[0]
    assert (first.busy, first.temperature_celsius, first.power_watts) == (None, None, None)


@pytest.mark.parametrize("broken", ["Init", "Count", "Memory", "Processes"])
def test_a_driver_that_fails_says_so(broken: str) -> None:
    with pytest.raises(NvmlError, match=r"cannot be asked: .* went wrong"):
        session = Nvml(FakeNvml(broken={broken}), {})
        session.gpus()
        session.bytes_of(1)


def test_gpus_that_are_hidden_from_the_engine_are_not_there() -> None:
    assert [gpu.uuid for gpu in Nvml(FakeNvml(), {"CUDA_VISIBLE_DEVICES": "1"}).gpus()] == ["GPU-bb"]
    assert Nvml(FakeNvml(), {"CUDA_VISIBLE_DEVICES": ""}).gpus() == ()


@pytest.mark.parametrize(
    ("names", "left"),
    [("0,1,2", [0, 1, 2]), ("2, 0", [2, 0]), ("GPU-b,0", [1, 0]), ("1,9,0", [1]), ("-1", []), ("", []), ("1,1", [1])],
)
def test_visible_devices(names: str, left: list[int]) -> None:
    assert visible(["GPU-aa", "GPU-bb", "GPU-cc"], names) == left


def test_memory_of_one_process() -> None:
    processes: dict[int, list[tuple[int, int | None]]] = {0: [(7, 100), (8, 1), (7, 50)], 1: [(8, 5), (7, None)]}
    session = Nvml(FakeNvml(processes=processes), {})
    assert session.bytes_of(7) == (DeviceBytes(uuid="GPU-aa", bytes=150),)
    assert session.bytes_of(9) == ()


def test_a_worker_without_a_driver_has_nothing_on_gpus() -> None:
    def no_driver() -> Nvml:
        raise NvmlError("none")

    assert own_device_bytes(no_driver) == ()
    fake: Any = FakeNvml(broken={"Processes"})
    assert own_device_bytes(lambda: Nvml(fake, {})) == ()
    assert fake.closed == 1


def test_the_real_module_is_the_seam_that_the_fake_stands_for() -> None:
    pynvml = pytest.importorskip("pynvml")
    for name in (name for name in dir(FakeNvml) if name.startswith(("nvml", "NVML"))):
        assert hasattr(pynvml, name), name
