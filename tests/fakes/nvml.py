"""What we use of pynvml, without a driver: two cards."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Final

UUIDS: Final = ("GPU-aa", "GPU-bb")


class FakeNvml:
    """broken: words in names of calls that fail. processes: by GPU, (pid, bytes). closed: how often it was."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        """As pynvml's."""

    def __init__(
        self, broken: Collection[str] = (), processes: Mapping[int, Sequence[tuple[int, int | None]]] | None = None
    ) -> None:
        self.broken = set(broken)
        self.processes = processes or {}
        self.closed = 0

    def nvmlInit(self) -> None:
        self._try("Init")

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlDeviceGetCount(self) -> int:
        self._try("Count")
        return len(UUIDS)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return UUIDS[handle]

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return f"Card {handle}".encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        self._try("Memory")
        return SimpleNamespace(total=8000, free=6000, used=2000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        self._try("Utilization")
        return SimpleNamespace(gpu=25, memory=10)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._try("Temperature")
        return 45

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._try("Power")
        return 120_500

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        self._try("Processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=taken) for pid, taken in self.processes.get(handle, ())]

    def _try(self, what: str) -> None:
        if what in self.broken:
            raise self.NVMLError(f"{what} went wrong")
