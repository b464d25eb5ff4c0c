"""The NVIDIA driver's own view of the GPUs. Nothing else in the product imports `pynvml`.

A machine without a driver is no error: it has no GPUs. What a GPU does not tell is None, and one that cannot be read
does not take the others with it. Calls may take milliseconds; any thread, one at a time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from appliance.types import DeviceBytes, GpuReading, ProcessBytes

GPUS_MAX: Final = 64
INSTANCES_MAX: Final = 16
PROCESSES_MAX: Final = 256
# Faults that are taken from the driver at one look.
_EVENTS_MAX: Final = 64
_PERCENT: Final = 100.0
_MILLIWATTS: Final = 1000.0
_KILOBYTES: Final = 1000.0
# GPUs that compute in the host's memory: the driver tells nothing of memory of their own.
_INTEGRATED: Final = ("GB10", "Orin", "Thor", "Xavier", "Tegra")
# <nvml.h>, nvmlClocksEventReason…: bits that hold the clock below what was asked for. Idle and settings are none.
_THROTTLES: Final[Mapping[int, str]] = {
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
}
# By NVML's number of an error: what to do about it.
_REMEDIES: Final[Mapping[int, str]] = {
    4: "no permission to use the GPUs: add the service's user to the group of /dev/nvidia0, and to its unit "
    "DeviceAllow=/dev/nvidia* rw",
    9: "the NVIDIA kernel module is not loaded: run `modprobe nvidia`",
    12: "no NVIDIA driver is installed (there is no libnvidia-ml.so.1): models run on the processor",
    18: "the NVIDIA driver was upgraded and its old kernel module is still loaded: reboot, or reload nvidia.ko",
}
_NOT_SUPPORTED: Final = 3
_NO_PERMISSION: Final = 4
_LOST: Final = (15, 16)

T = TypeVar("T")


class NvmlError(Exception):
    """The driver cannot be asked; the message says why."""


class _Lost(Exception):
    """One GPU cannot be asked any more; the message says why."""


class _Card(Struct):
    """One GPU as the session knows it. handle: None where the driver gives none; then `trouble` says why."""

    index: int
    uuid: str
    name: str
    handle: Any = None
    trouble: str | None = None
    watched: bool = False
    xids: int = 0
    newest_xid: int | None = None


class Nvml:
    """An open session with the driver. Raises NvmlError where there is none, or it does not answer."""

    def __init__(self, module: Any, environment: Mapping[str, str]) -> None:
        """module: pynvml. environment: CUDA_VISIBLE_DEVICES of it hides GPUs from llama.cpp."""
        self._nvml = module
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._cards: dict[int, _Card] = {}
        self._events: Any = None
        with self._explained():
            module.nvmlInit()

    def gpus(self) -> tuple[GpuReading, ...]:
        """Those that llama.cpp sees, in its order. Raises NvmlError where none of them can be asked."""
        cards = self._found()
        self._take_events(cards)
        return tuple(self._reading(card) for card in cards)

    def bytes_of(self, pid: int) -> tuple[DeviceBytes, ...]:
        """What a process has of each GPU it uses. Raises NvmlError."""
        found = []
        for card in self._found():
            if card.handle is None:
                continue
            with self._explained():
                processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(card.handle)
            # A driver that may not tell says None.
            taken = sum(process.usedGpuMemory or 0 for process in processes if process.pid == pid)
            if taken:
                found.append(DeviceBytes(uuid=card.uuid, bytes=taken))
        return tuple(found)

    def close(self) -> None:
        """Ends the session."""
        with contextlib.suppress(self._nvml.NVMLError):
            if self._events is not None:
                self._nvml.nvmlEventSetFree(self._events)
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    # ── which there are ───────────────────────────────────────────────────────────────────────────────────────────

    def _found(self) -> list[_Card]:
        with self._explained():
            count = min(int(self._nvml.nvmlDeviceGetCount()), GPUS_MAX)
        cards = [self._card(index) for index in range(count)]
        if self._visible is None:
            return cards
        return [cards[index] for index in visible([card.uuid for card in cards], self._visible)]

    def _card(self, index: int) -> _Card:
        """One that is lost keeps the name that it had."""
        nvml = self._nvml
        card = self._cards.get(index)
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
        except nvml.NVMLError as error:
            card = card or _Card(index=index, uuid=f"gpu{index}", name=f"GPU {index}")
            card.handle, card.trouble = None, _why(error)
        else:
            if card is None or card.uuid != uuid:
                card = _Card(index=index, uuid=uuid, name=name)
            card.handle, card.trouble = handle, None
        self._cards[index] = card
        return card

    # ── what they say ─────────────────────────────────────────────────────────────────────────────────────────────

    def _reading(self, card: _Card) -> GpuReading:
        known = GpuReading(
            uuid=card.uuid,
            name=card.name,
            xid_errors=card.xids if card.watched else None,
            newest_xid=card.newest_xid,
        )
        if card.handle is None:
            return replace(known, trouble=card.trouble)
        try:
            return replace(self._measured(card.handle, known), instances=self._instances(card.handle))
        except _Lost as lost:
            return replace(known, trouble=str(lost))

    def _measured(self, handle: Any, known: GpuReading) -> GpuReading:
        """What every GPU has, and every MIG instance has some of. Raises _Lost."""
        nvml, ask = self._nvml, self._asked
        memory, memory_trouble = self._memory(handle)
        rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        power = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        limit = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        receive = ask(lambda: nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_RX_BYTES))
        transmit = ask(lambda: nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_TX_BYTES))
        processes, processes_trouble = self._processes(handle)
        return replace(
            known,
            total_bytes=None if memory is None else int(memory.total),
            free_bytes=None if memory is None else int(memory.free),
            used_bytes=None if memory is None else int(memory.used),
            reserved_bytes=_whole(getattr(memory, "reserved", None)),
            busy=None if rates is None else rates.gpu / _PERCENT,
            memory_busy=None if rates is None else rates.memory / _PERCENT,
            temperature_celsius=_whole(ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
            power_watts=None if power is None else power / _MILLIWATTS,
            power_limit_watts=None if limit is None else limit / _MILLIWATTS,
            sm_mhz=_whole(ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))),
            pcie_receive_bytes_per_second=None if receive is None else receive * _KILOBYTES,
            pcie_transmit_bytes_per_second=None if transmit is None else transmit * _KILOBYTES,
            ecc_corrected=self._ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            throttle=self._throttle(handle),
            processes=processes,
            processes_trouble=processes_trouble,
            memory_unified=memory is None and any(part in known.name for part in _INTEGRATED),
            trouble=memory_trouble,
        )

    def _memory(self, handle: Any) -> tuple[Any, str | None]:
        """A new driver tells apart what it keeps for itself. Beside it, why there is nothing."""
        nvml = self._nvml
        try:
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
            except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch):
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError as error:
            _raise_if_lost(error)
            return None, None if error.value == _NOT_SUPPORTED else f"its memory cannot be read: {error}"
        return (memory, None) if memory.total else (None, None)

    def _ecc(self, handle: Any, kind: int) -> int | None:
        nvml = self._nvml
        return _whole(self._asked(lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC)))

    def _throttle(self, handle: Any) -> tuple[str, ...]:
        nvml = self._nvml
        reasons = self._asked(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        if reasons is None:
            # As drivers before 535 call it.
            reasons = self._asked(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return tuple(words for bit, words in _THROTTLES.items() if reasons & bit)

    def _processes(self, handle: Any) -> tuple[tuple[ProcessBytes, ...], str | None]:
        try:
            found = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError as error:
            _raise_if_lost(error)
            return (), "no permission" if error.value == _NO_PERMISSION else str(error)
        return tuple(ProcessBytes(one.pid, _whole(one.usedGpuMemory)) for one in found[:PROCESSES_MAX]), None

    def _instances(self, handle: Any) -> tuple[GpuReading, ...]:
        nvml = self._nvml
        most = self._asked(lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
        found = []
        for index in range(min(int(most), INSTANCES_MAX)):
            instance = self._asked(lambda index=index: nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))  # type: ignore[misc]
            if instance is None:
                continue
            uuid = self._asked(lambda instance=instance: nvml.nvmlDeviceGetUUID(instance))  # type: ignore[misc]
            name = self._asked(lambda instance=instance: nvml.nvmlDeviceGetName(instance))  # type: ignore[misc]
            if uuid is not None:
                known = GpuReading(uuid=_text(uuid), name=_text(name or f"MIG {index}"))
                found.append(self._measured(instance, known))
        return tuple(found)

    # ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_events(self, cards: list[_Card]) -> None:
        """Counts the Xid errors since the last look; a card that tells of none has no count."""
        nvml = self._nvml
        with contextlib.suppress(nvml.NVMLError):
            if self._events is None:
                self._events = nvml.nvmlEventSetCreate()
            for card in cards:
                self._watch(card)
            # Ends with a timeout where there are no more.
            for _ in range(_EVENTS_MAX):
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = _text(nvml.nvmlDeviceGetUUID(event.device))
                for card in cards:
                    if card.uuid == uuid:
                        card.xids += 1
                        card.newest_xid = int(event.eventData)

    def _watch(self, card: _Card) -> None:
        if card.handle is None or card.watched:
            return
        nvml = self._nvml
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlDeviceRegisterEvents(card.handle, nvml.nvmlEventTypeXidCriticalError, self._events)
            card.watched = True

    # ── how they are asked ────────────────────────────────────────────────────────────────────────────────────────

    def _asked(self, ask: Callable[[], T]) -> T | None:
        """What not every GPU can tell. Raises _Lost."""
        try:
            return ask()
        except self._nvml.NVMLError as error:
            _raise_if_lost(error)
            return None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._nvml.NVMLError as error:
            raise NvmlError(_why(error)) from error


def open_nvml() -> Nvml:
    """The driver of this machine. Raises NvmlError."""
    try:
        import pynvml
    except ImportError as error:
        raise NvmlError(f"pynvml cannot be imported: {error}") from error
    return Nvml(pynvml, os.environ)


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


def _why(error: Any) -> str:
    return _REMEDIES.get(error.value) or f"the NVIDIA driver cannot be asked: {error}"


def _raise_if_lost(error: Any) -> None:
    if error.value in _LOST:
        raise _Lost(f"it cannot be reached any more ({error}): its processes are gone; reset it, or reboot") from error


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
