"""The newest reading of the machine, from a worker that is started again whenever it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from appliance.errors import WireError
from appliance.models.backoff import backoff_seconds
from appliance.models.launcher import Launcher, WorkerLink
from appliance.tasks import TaskOwner
from appliance.types import HardwareReading
from appliance.wire import Hardware, WatchHardware

INTERVAL_SECONDS: Final = 2.0
# A driver may take its time; this much without a word is a worker that hangs in it.
SILENCE_SECONDS_MAX: Final = 60.0
BACKOFF_SECONDS_MAX: Final = 60.0

_log = logging.getLogger(__name__)


class HardwareWatch:
    """Belongs to the event loop. Reading it wakes nobody.

    latest: None until the first reading; the last one stays while the worker is being restarted. read_at: when it came,
    on `clock`. first: set with the first one.
    """

    def __init__(
        self,
        launcher: Launcher,
        interval_seconds: float = INTERVAL_SECONDS,
        silence_seconds_max: float = SILENCE_SECONDS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.latest: HardwareReading | None = None
        self.read_at = 0.0
        self.first = asyncio.Event()
        self.restarts = 0
        self._launcher = launcher
        self._interval = interval_seconds
        self._silence_max = silence_seconds_max
        self._clock = clock
        self._tasks = TaskOwner("hardware")
        self._failures = 0

    def start(self) -> None:
        """Begins to watch."""
        self._tasks.spawn(self._watch(), name="watch")

    async def close(self) -> None:
        """Ends the worker."""
        await self._tasks.close()

    async def _watch(self) -> None:
        while True:
            try:
                await self._watch_once()
                reason = "its worker ended"
            except TimeoutError:
                reason = f"its worker said nothing for {self._silence_max:.0f} s"
            except (OSError, WireError) as error:
                reason = str(error)
            self.restarts += 1
            self._failures += 1
            pause = backoff_seconds(self._failures, BACKOFF_SECONDS_MAX) if self._failures > 1 else 0.0
            _log.warning("the hardware cannot be watched: %s; starting again in %.0f s", reason, pause)
            await asyncio.sleep(pause)

    async def _watch_once(self) -> None:
        """One worker from its start to its end. Raises TimeoutError where it falls silent."""
        link = await self._launcher.launch()
        try:
            link.send(WatchHardware(interval_seconds=self._interval))
            while await self._take(link):
                pass
        finally:
            link.kill()
            await link.close()

    async def _take(self, link: WorkerLink) -> bool:
        """False once the worker has gone."""
        async with asyncio.timeout(self._silence_max):
            messages = await link.receive()
        for message in messages:
            if not isinstance(message, Hardware):
                raise WireError(f"unexpected {type(message).__name__} from a worker that watches hardware")
            self._note(message.reading)
        return bool(messages)

    def _note(self, reading: HardwareReading) -> None:
        if reading.gpu_trouble is not None and (self.latest is None or self.latest.gpu_trouble != reading.gpu_trouble):
            _log.info("no GPUs are seen: %s", reading.gpu_trouble)
        self.latest, self.read_at = reading, self._clock()
        self._failures = 0
        self.first.set()
