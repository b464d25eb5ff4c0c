"""One worker ahead: it has started and imported all it needs, and waits for its first frame."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from appliance.errors import WireError
from appliance.models.launcher import Launcher, WorkerLink, worker_environment
from appliance.tasks import TaskOwner

_log = logging.getLogger(__name__)


class SpareLauncher:
    """A Launcher that hands out its spare, and starts a worker where it has none. Belongs to the event loop.

    A spare is nobody's until it is handed out: that it dies, or is killed, harms nothing, and another one comes with
    the next `prepare`. It is begun after a load, not beside one. environment: what workers get; a spare that got
    another one is not used.
    """

    def __init__(self, launcher: Launcher, environment: Callable[[], Mapping[str, str]] = worker_environment) -> None:
        self._launcher = launcher
        self._environment = environment
        self._given: Mapping[str, str] = {}
        self._spare: WorkerLink | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._closing = False
        self._tasks = TaskOwner("spare worker")

    async def launch(self) -> WorkerLink:
        """The spare, where it is alive, or a fresh worker. Raises OSError."""
        return self._take() or await self._launcher.launch()

    def prepare(self) -> None:
        """Starts a spare unless there is one."""
        if self._keeping is None and not self._closing:
            self._keeping = self._tasks.spawn(self._keep(), name="keep")

    async def close(self) -> None:
        """Ends the spare; there will be no other."""
        self._closing = True
        await self._tasks.close()

    @property
    def pid(self) -> int | None:
        """The process that waits; None where there is none."""
        return None if self._spare is None else self._spare.pid

    def _take(self) -> WorkerLink | None:
        link = self._spare
        if link is None or self._keeping is None:
            return None
        if not link.is_there() or self._environment() != self._given:
            link.hang_up()
            return None
        self._keeping.cancel()
        self._spare = self._keeping = None
        return link

    async def _keep(self) -> None:
        """From its start until it is handed out, or has gone."""
        link = None
        try:
            self._given = self._environment()
            self._spare = link = await self._launcher.launch()
            # It has nothing to say: whatever comes is its end.
            await link.receive()
        except (OSError, WireError) as error:
            _log.warning("no worker can be kept ready: %s", error)
        finally:
            if link is not None and self._spare is link:
                self._spare = None
                link.kill()
                await link.close()
            if self._keeping is asyncio.current_task():
                self._keeping = None
