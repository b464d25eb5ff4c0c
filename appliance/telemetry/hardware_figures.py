"""A reading of the machine as a snapshot of the appliance shows it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from appliance.telemetry.snapshot import GpuFigures, HostFigures
from appliance.types import GpuReading, GpuSensors, HardwareReading, HostReading


def host_figures(
    reading: HostReading | None, *, disk_free_bytes: int | None, disk_total_bytes: int | None, clock: bool | None
) -> HostFigures:
    """clock: whether it is synchronised. Without a reading there is what the daemon knows itself."""
    if reading is None:
        return HostFigures(disk_free_bytes=disk_free_bytes, disk_total_bytes=disk_total_bytes, clock_synchronized=clock)
    return HostFigures(
        cpu_busy=reading.cpu_busy,
        cpu_count=reading.cpu_count,
        memory_total_bytes=reading.total_bytes,
        memory_available_bytes=reading.available_bytes,
        swap_used_bytes=reading.swap_used_bytes,
        disk_free_bytes=disk_free_bytes,
        disk_total_bytes=disk_total_bytes,
        receive_bytes_per_second=reading.receive_bytes_per_second,
        transmit_bytes_per_second=reading.transmit_bytes_per_second,
        clock_synchronized=clock,
    )


def gpu_figures(
    reading: HardwareReading, own_pids: Collection[int], own_bytes: Mapping[str, int]
) -> tuple[GpuFigures, ...]:
    """Every GPU, each followed by its MIG instances.

    own_pids: of our workers. own_bytes: what they say they hold, by uuid: it counts where the driver does not tell.
    """
    found: list[GpuFigures] = []
    for gpu in reading.gpus:
        seen = _figures(gpu, None, own_pids, own_bytes)
        found.append(_with_host_memory(seen, reading.host) if gpu.memory_unified else seen)
        # CUDA shows a process the first instance, and a worker knows it by the GPU's place.
        for number, instance in enumerate(gpu.instances):
            held = {instance.uuid: own_bytes[gpu.uuid]} if number == 0 and gpu.uuid in own_bytes else {}
            found.append(_figures(instance, gpu.uuid, own_pids, held))
    return tuple(found)


def _figures(
    gpu: GpuReading, parent: str | None, own_pids: Collection[int], own_bytes: Mapping[str, int]
) -> GpuFigures:
    own, other = _owners(gpu, own_pids, own_bytes.get(gpu.uuid))
    return GpuFigures(
        **{name: getattr(gpu, name) for name in GpuSensors.__struct_fields__},
        parent=parent,
        own_bytes=own,
        other_bytes=other,
    )


def _with_host_memory(seen: GpuFigures, host: HostReading) -> GpuFigures:
    return replace(
        seen,
        total_bytes=host.total_bytes,
        free_bytes=host.available_bytes,
        used_bytes=host.total_bytes - host.available_bytes,
    )


def _owners(gpu: GpuReading, own_pids: Collection[int], said: int | None) -> tuple[int | None, int | None]:
    """What is ours and what is others'. None: not known."""
    if gpu.trouble is not None:
        return said, None
    ours = [process.bytes for process in gpu.processes if process.pid in own_pids]
    others = [process.bytes for process in gpu.processes if process.pid not in own_pids]
    if gpu.processes_trouble is not None or None in ours or (said and not ours):
        # In a container the driver counts in other pids, or says nothing: who is not among ours may be one of ours.
        return said, None
    own = sum(size for size in ours if size is not None)
    return own, None if None in others else sum(size for size in others if size is not None)
