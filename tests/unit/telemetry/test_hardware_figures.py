"""appliance.telemetry.hardware_figures"""

from __future__ import annotations

import pytest

from appliance.telemetry.hardware_figures import gpu_figures, host_figures
from appliance.types import GpuReading, HardwareReading, HostReading, ProcessBytes

HOST = HostReading(total_bytes=100, available_bytes=60, cpu_busy=0.5, swap_used_bytes=1)


def owners(held: dict[str, int] | None = None, **fields: object) -> tuple[int | None, int | None]:
    gpu = GpuReading(uuid="GPU-aa", name="Card", **fields)  # type: ignore[arg-type]
    (found,) = gpu_figures(HardwareReading(host=HOST, gpus=(gpu,)), {7, 8}, held or {})
    return found.own_bytes, found.other_bytes


def test_the_host_with_and_without_a_reading() -> None:
    read = host_figures(HOST, disk_free_bytes=5, disk_total_bytes=9, clock=False)
    assert (read.cpu_busy, read.swap_used_bytes, read.disk_free_bytes, read.clock_synchronized) == (0.5, 1, 5, False)
    unread = host_figures(None, disk_free_bytes=5, disk_total_bytes=9, clock=None)
    assert (unread.cpu_busy, unread.disk_total_bytes) == (None, 9)


def test_whose_memory_it_is() -> None:
    mine, others = ProcessBytes(7, 50), ProcessBytes(99, 3)
    assert owners(processes=(mine, others, ProcessBytes(8, 5))) == (55, 3)
    assert owners() == (0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"processes_trouble": "no permission"},
        {"processes": (ProcessBytes(7, None), ProcessBytes(99, 3))},
        # A container: none of the pids is one that the daemon knows.
        {"processes": (ProcessBytes(4242, 50),)},
        {"trouble": "it fell off the bus"},
    ],
)
def test_what_the_driver_does_not_tell_the_workers_do(fields: dict[str, object]) -> None:
    assert owners({"GPU-aa": 41}, **fields) == (41, None)


def test_others_of_unknown_size_are_not_known() -> None:
    assert owners({"GPU-aa": 41}, processes=(ProcessBytes(7, 50), ProcessBytes(99, None))) == (50, None)


def test_instances_follow_their_gpu() -> None:
    slices = tuple(GpuReading(uuid=f"MIG-{n}", name="slice", total_bytes=10) for n in range(2))
    reading = HardwareReading(
        host=HOST, gpus=(GpuReading(uuid="GPU-aa", name="Card", instances=slices), GpuReading(uuid="GPU-bb", name="B"))
    )
    found = gpu_figures(reading, (), {"GPU-aa": 4})
    assert [(gpu.uuid, gpu.parent) for gpu in found] == [
        ("GPU-aa", None),
        ("MIG-0", "GPU-aa"),
        ("MIG-1", "GPU-aa"),
        ("GPU-bb", None),
    ]
    assert (found[1].own_bytes, found[2].own_bytes) == (4, 0)


def test_a_gpu_in_the_hosts_memory_has_the_hosts() -> None:
    gpu = GpuReading(uuid="GPU-aa", name="NVIDIA GB10", memory_unified=True)
    (found,) = gpu_figures(HardwareReading(host=HOST, gpus=(gpu,)), (), {})
    assert (found.total_bytes, found.free_bytes, found.used_bytes, found.memory_unified) == (100, 60, 40, True)
