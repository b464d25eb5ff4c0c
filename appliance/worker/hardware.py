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
    ) -> None:
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
        room = self._room()
        return HardwareReading(
            host=HostReading(
                total_bytes=room.total, available_bytes=room.available, cpu_busy=min(1.0, self._cpu_percent() / 100)
            ),
            gpus=gpus,
            gpu_trouble=self._trouble,
        )

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
