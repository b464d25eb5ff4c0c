"""The NVIDIA driver's own view of the GPUs. Nothing else in the product imports `pynvml`.

A machine without a driver is no error: it has no GPUs. Calls may take milliseconds; any thread, one at a time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from appliance.types import DeviceBytes, GpuReading

GPUS_MAX: Final = 64
_PERCENT: Final = 100.0
_MILLIWATTS: Final = 1000.0


class NvmlError(Exception):
    """The driver cannot be asked; the message says why."""


class Nvml:
    """An open session with the driver. Raises NvmlError where there is none, or it does not answer."""

    def __init__(self, module: Any, environment: dict[str, str]) -> None:
        """module: pynvml, or what looks like it. environment: CUDA_VISIBLE_DEVICES of it hides GPUs from llama.cpp."""
        self._nvml = module
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        with self._explained():
            module.nvmlInit()

    def gpus(self) -> tuple[GpuReading, ...]:
        """Those that llama.cpp sees, in its order. Raises NvmlError."""
        return tuple(self._reading(handle) for handle in self._handles())

    def bytes_of(self, pid: int) -> tuple[DeviceBytes, ...]:
        """What a process has of each GPU it uses. Raises NvmlError."""
        found = []
        for handle in self._handles():
            with self._explained():
                processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
                uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
            # A driver that may not tell says None.
            taken = sum(process.usedGpuMemory or 0 for process in processes if process.pid == pid)
            if taken:
                found.append(DeviceBytes(uuid=uuid, bytes=taken))
        return tuple(found)

    def close(self) -> None:
        """Ends the session."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _handles(self) -> list[Any]:
        with self._explained():
            count = min(int(self._nvml.nvmlDeviceGetCount()), GPUS_MAX)
            handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            if self._visible is None:
                return handles
            uuids = [_text(self._nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        return [handles[index] for index in visible(uuids, self._visible)]

    def _reading(self, handle: Any) -> GpuReading:
        nvml = self._nvml
        with self._explained():
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
        busy = self._optional(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        power = self._optional(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        temperature = self._optional(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return GpuReading(
            uuid=uuid,
            name=name,
            total_bytes=int(memory.total),
            free_bytes=int(memory.free),
            used_bytes=int(memory.used),
            busy=None if busy is None else busy / _PERCENT,
            temperature_celsius=None if temperature is None else int(temperature),
            power_watts=None if power is None else power / _MILLIWATTS,
        )

    def _optional(self, ask: Callable[[], float]) -> float | None:
        """What not every GPU has a sensor for."""
        try:
            return ask()
        except self._nvml.NVMLError:
            return None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._nvml.NVMLError as error:
            raise NvmlError(f"the NVIDIA driver cannot be asked: {error}") from error


def open_nvml() -> Nvml:
    """The driver of this machine. Raises NvmlError."""
    try:
        import pynvml
    except ImportError as error:
        raise NvmlError(f"pynvml cannot be imported: {error}") from error
    return Nvml(pynvml, dict(os.environ))


def own_device_bytes(open_session: Callable[[], Nvml] = open_nvml) -> tuple[DeviceBytes, ...]:
    """What this process has of each GPU; empty where the driver cannot be asked."""
    try:
        session = open_session()
    except NvmlError:
        return ()
    try:
        return session.bytes_of(os.getpid())
    except NvmlError:
        return ()
    finally:
        session.close()


def visible(uuids: list[str], names: str) -> list[int]:
    """Which GPUs CUDA_VISIBLE_DEVICES leaves, by index, in its order. As for CUDA, the first that is none ends it."""
    chosen: list[int] = []
    for name in (part.strip() for part in names.split(",")):
        if name.isdecimal():
            index = int(name) if int(name) < len(uuids) else None
        else:
            index = next((i for i, uuid in enumerate(uuids) if name and uuid.startswith(name)), None)
        if index is None or index in chosen:
            break
        chosen.append(index)
    return chosen


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
