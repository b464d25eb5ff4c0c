"""Reads the machine over and over for the daemon, which has no devices of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

import psutil

from appliance.errors import WireError
from appliance.types import GpuReading, HardwareReading, HostReading
from appliance.wire import Hardware, ToWorker, WatchHardware
from appliance.worker.host_memory import Room, host_room
from appliance.worker.nvml import Nvml, NvmlError, open_nvml

INTERVAL_SECONDS_MIN: Final = 0.1
# A driver that was not there, or failed, is looked for again this often.
RETRY_SECONDS: Final = 30.0


class Sampler:
    """Belongs to one thread. clock: monotonic."""

    def __init__(
        self,
        open_driver: Callable[[], Nvml] = open_nvml,
        room: Callable[[], Room] = host_room,
        cpu_percent: Callable[[], float] = psutil.cpu_percent,
        clock: Callable[[], float] = time.monotonic,
        network: Callable[[], tuple[int, int] | None] | None = None,
    ) -> None:
        self._network = network or network_bytes
        # When what had been received and sent.
        self._before: tuple[float, int, int] | None = None
        self._open_driver = open_driver
        self._room = room
        self._cpu_percent = cpu_percent
        self._clock = clock
        self._driver: Nvml | None = None
        self._trouble: str | None = None
        self._retry_at = clock()

    def read(self) -> HardwareReading:
        """The machine now. GPUs that cannot be read are none, with the reason."""
        gpus = self._gpus()
        return HardwareReading(host=self._host(), gpus=gpus, gpu_trouble=self._trouble)

    def _host(self) -> HostReading:
        room, (receive, transmit) = self._room(), self._rates()
        return HostReading(
            total_bytes=room.total,
            available_bytes=room.available,
            cpu_busy=min(1.0, self._cpu_percent() / 100),
            cpu_count=psutil.cpu_count(),
            swap_used_bytes=_swap_used(),
            receive_bytes_per_second=receive,
            transmit_bytes_per_second=transmit,
        )

    def _rates(self) -> tuple[float | None, float | None]:
        """Since the last reading; unknown where a count went back, as it does with an interface that is removed."""
        before, counts, now = self._before, self._network(), self._clock()
        self._before = None if counts is None else (now, *counts)
        if before is None or counts is None or now <= before[0] or counts[0] < before[1] or counts[1] < before[2]:
            return None, None
        seconds = now - before[0]
        return round((counts[0] - before[1]) / seconds), round((counts[1] - before[2]) / seconds)

    def _gpus(self) -> tuple[GpuReading, ...]:
        try:
            if self._driver is None:
                if self._clock() < self._retry_at:
                    return ()
                self._driver = self._open_driver()
            gpus = self._driver.gpus()
        except NvmlError as error:
            self._trouble = str(error)
            self._retry_at = self._clock() + RETRY_SECONDS
            if self._driver is not None:
                self._driver.close()
                self._driver = None
            return ()
        self._trouble = None
        return gpus


def network_bytes() -> tuple[int, int] | None:
    """What has come and gone through all interfaces but the loopback; None where it cannot be read."""
    try:
        found = [one for name, one in psutil.net_io_counters(pernic=True).items() if name != "lo"]
    except OSError:
        return None
    return sum(one.bytes_recv for one in found), sum(one.bytes_sent for one in found)


def _swap_used() -> int | None:
    try:
        return int(psutil.swap_memory().used)
    except (OSError, RuntimeError):
        # psutil raises RuntimeError where /proc/meminfo has no line of it.
        return None


def watch_hardware(
    job: WatchHardware,
    messages: Iterator[ToWorker | None],
    send: Callable[[Hardware], None],
    sampler: Sampler | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Until the daemon closes the connection. messages: None whenever some time has passed with nothing from it."""
    sampler = sampler or Sampler()
    interval = max(job.interval_seconds, INTERVAL_SECONDS_MIN)
    due = clock() + interval
    send(Hardware(reading=sampler.read()))
    for message in messages:
        if message is not None:
            raise WireError(f"unexpected {type(message).__name__} frame while watching hardware")
        if clock() >= due:
            due = clock() + interval
            send(Hardware(reading=sampler.read()))
