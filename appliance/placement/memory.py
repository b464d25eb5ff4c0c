"""What memory there is, and who has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.placement.estimate import Footprint
from appliance.types import GpuReading, HardwareReading

# What is read in a second where nobody has said: desktop memory with two channels, a GPU of the middle.
HOST_BYTES_PER_SECOND: Final = 40e9
DEVICE_BYTES_PER_SECOND: Final = 800e9


class Device(Struct, frozen=True, kw_only=True):
    """One GPU, in the order in which llama.cpp counts them. free_bytes: now, for everybody."""

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    bytes_per_second: float = DEVICE_BYTES_PER_SECOND


class HostMemory(Struct, frozen=True, kw_only=True):
    """available_bytes: what can be had without swapping, page cache included, within the service's own limit."""

    total_bytes: int
    available_bytes: int
    bytes_per_second: float = HOST_BYTES_PER_SECOND


def memory_of(reading: HardwareReading) -> Memory:
    """What a reading of the machine says is free.

    A GPU that cannot be read, or has no memory of its own, keeps its place and has no room. Of one in MIG mode CUDA
    shows a process the first instance.
    """
    return Memory(
        HostMemory(total_bytes=reading.host.total_bytes, available_bytes=reading.host.available_bytes),
        tuple(
            Device(uuid=gpu.uuid, name=gpu.name, total_bytes=total, free_bytes=free)
            for gpu in reading.gpus
            for total, free in (_own_memory(gpu.instances[0] if gpu.instances else gpu),)
        ),
    )


def _own_memory(gpu: GpuReading) -> tuple[int, int]:
    """All of it, and what is free of it."""
    return (0, 0) if gpu.memory_unified else (gpu.total_bytes or 0, gpu.free_bytes or 0)


class Loaded(Struct, frozen=True, kw_only=True):
    """A model in memory. footprint: measured where it was, else estimated. last_used: any clock, larger is later.

    busy: it has requests or is loading. A model that is pinned or busy is never evicted.
    """

    model: str
    footprint: Footprint
    pinned: bool
    busy: bool
    last_used: float


class Memory(Struct, frozen=True):
    """What is free on the machine. devices: every GPU, also full ones."""

    host: HostMemory
    devices: tuple[Device, ...] = ()

    def plus(self, models: Iterable[Loaded]) -> Memory:
        """As it will be once these have been unloaded."""
        memory = self
        for model in models:
            memory = memory._changed(model.footprint, 1)
        return memory

    def less(self, footprint: Footprint) -> Memory:
        """As it will be once this has been allocated: for what is promised but not yet taken."""
        return self._changed(footprint, -1)

    def _changed(self, footprint: Footprint, sign: int) -> Memory:
        taken = (*footprint.devices, *(0 for _ in self.devices))
        return Memory(
            replace(self.host, available_bytes=self.host.available_bytes + sign * footprint.host),
            tuple(
                replace(device, free_bytes=device.free_bytes + sign * taken[index])
                for index, device in enumerate(self.devices)
            ),
        )
