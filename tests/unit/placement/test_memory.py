"""appliance.placement.memory"""

from __future__ import annotations

from appliance.placement.memory import memory_of
from appliance.types import GpuReading, HardwareReading, HostReading

HOST = HostReading(total_bytes=100, available_bytes=60, cpu_busy=0.0)


def room(*gpus: GpuReading) -> list[tuple[str, int, int]]:
    found = memory_of(HardwareReading(host=HOST, gpus=gpus))
    return [(device.uuid, device.total_bytes, device.free_bytes) for device in found.devices]


def test_gpus_keep_their_places_whatever_they_tell() -> None:
    lost = GpuReading(uuid="GPU-aa", name="A", trouble="it fell off")
    well = GpuReading(uuid="GPU-bb", name="B", total_bytes=9, free_bytes=5)
    shared = GpuReading(uuid="GPU-cc", name="C", total_bytes=100, free_bytes=60, memory_unified=True)
    assert room(lost, well, shared) == [("GPU-aa", 0, 0), ("GPU-bb", 9, 5), ("GPU-cc", 0, 0)]


def test_of_a_gpu_that_is_cut_the_first_instance_counts() -> None:
    instances = tuple(GpuReading(uuid=f"MIG-{n}", name="slice", total_bytes=4, free_bytes=n) for n in (3, 1))
    assert room(GpuReading(uuid="GPU-aa", name="A", total_bytes=9, free_bytes=5, instances=instances)) == [
        ("GPU-aa", 4, 3)
    ]
