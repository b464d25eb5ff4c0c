"""Signs of life for systemd's watchdog, given only while the service gets on with its work.

The event loop turns, or nothing here would run. Besides: somebody looks at everything each second, the audit log's
thread comes back from the disk, and no worker owes an answer for longer than its watch would let it. What a restart
cannot mend, such as a full disk, is no reason to ask for one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.systemd import ServiceManager
from appliance.telemetry.snapshot import Snapshot

# Snapshots are a second apart; a busy machine has them late.
OBSERVED_SECONDS_MAX: Final = 15.0
# A disk that takes longer than this for one commit has hung.
RECORDING_SECONDS_MAX: Final = 60.0
# What a start may take besides, each time that it has shown that it gets on.
START_SECONDS: Final = 60.0
_INTERVAL_SECONDS_MAX: Final = 5.0
# So many chances has a sign of life before systemd misses it.
_SIGNS_A_WATCHDOG: Final = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signs:
    """Seconds. recording: how long the audit log's thread has been at one piece of work. overdue: how much longer a
    worker has owed an answer than any may.
    """

    recording: float = 0.0
    overdue: float = 0.0


def stuck(observed_seconds: float, signs: Signs) -> str | None:
    """What does not get on; None where all does. observed_seconds: since the newest snapshot."""
    if observed_seconds > OBSERVED_SECONDS_MAX:
        return f"nobody has looked at the appliance for {observed_seconds:.0f} s"
    if signs.recording > RECORDING_SECONDS_MAX:
        return f"the audit log has been writing for {signs.recording:.0f} s"
    if signs.overdue > 0:
        return f"a worker that says nothing was not ended {signs.overdue:.0f} s ago"
    return None


def status_of(snapshot: Snapshot) -> str:
    """One line for `systemctl status`."""
    ready = sum(model.state == "ready" for model in snapshot.models)
    requests = sum(model.running + model.waiting for model in snapshot.models)
    line = f"{ready} of {len(snapshot.models)} models loaded, {requests} requests"
    reasons: Sequence[str] = snapshot.degraded
    return f"{line}; degraded: {reasons[0]}" if reasons else line


class Heartbeat:
    """Belongs to the event loop. settled: whether the start is over, which may take as long as models load.

    clock: monotonic.
    """

    def __init__(
        self,
        manager: ServiceManager,
        signs: Callable[[], Signs],
        settled: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._signs = signs
        self._settled = settled
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._seen_at = clock()
        watchdog = manager.watchdog_seconds
        self.interval_seconds = (
            _INTERVAL_SECONDS_MAX if watchdog is None else min(_INTERVAL_SECONDS_MAX, watchdog / _SIGNS_A_WATCHDOG)
        )

    def look(self, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        self._snapshot, self._seen_at = snapshot, self._clock()

    async def run(self) -> None:
        """Until it is cancelled. Returns at once where no manager listens."""
        while self._manager.listens:
            self.beat()
            await asyncio.sleep(self.interval_seconds)

    def beat(self) -> None:
        """One sign of life, if there is one to give."""
        if (why := stuck(self._clock() - self._seen_at, self._signs())) is not None:
            _log.error("systemd gets no sign of life: %s", why)
            self._manager.status(f"stuck: {why}")
            return
        self._manager.alive()
        if not self._settled():
            self._manager.extend(START_SECONDS)
        if self._snapshot is not None:
            self._manager.status(status_of(self._snapshot))
