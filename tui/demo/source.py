"""The demo as a source: a made-up appliance that goes on in real time, or stands still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot
from tui.demo.answers import Answers
from tui.demo.scenario import ScenarioName, scenario_of
from tui.demo.world import World
from tui.source import Identity, Update

# 2026-11-20 03:14:15 +08: the moment that documents and tests show.
FROZEN_MOMENT: Final = 1_795_115_655.0
HISTORY_SECONDS: Final = 1200
_HISTORY_POINTS: Final = 180


class DemoSource:
    """frozen: one update, and no more. now: the clock of the made-up appliance.

    recorded: passes for a recording, to show how one looks. requests_per_second: instead of the scenario's.
    """

    def __init__(
        self,
        seed: int = 1,
        scenario: ScenarioName = "calm",
        *,
        now: Callable[[], float] = time.time,
        interval: float = 1.0,
        frozen: bool = False,
        recorded: bool = False,
        history_seconds: int = HISTORY_SECONDS,
        role: str = "operator",
        requests_per_second: float | None = None,
    ) -> None:
        self.where = f"demo {scenario}"
        self.recorded = recorded
        self.interval = interval
        self._now = now
        self._frozen = frozen
        self._history_seconds = history_seconds
        self._start = now()
        self._role = role
        chosen = scenario_of(scenario)
        if requests_per_second is not None:
            chosen = replace(chosen, requests_per_second=requests_per_second)
        self._world = World(seed, chosen, self._start)
        self._answers = Answers(chosen, self._start)
        # The last second whose requests were given.
        self._given = int(self._start) - history_seconds

    async def identity(self) -> Identity:
        """Somebody on the appliance itself."""
        return Identity(name="wang", roles=(self._role,), via="replay" if self.recorded else "unix")

    async def history(self, seconds: float) -> Sequence[Snapshot]:
        """Some snapshots of the time before."""
        if not self._world.snapshot(self._start).models:
            return ()
        step = seconds / _HISTORY_POINTS
        return tuple(self._world.snapshot(self._start - step * back) for back in range(_HISTORY_POINTS, 0, -1))

    async def updates(self) -> AsyncIterator[Update]:
        """At once, and then one an interval."""
        logs = self._world.logs()
        while True:
            now = self._now()
            yield Update(snapshot=self._world.snapshot(now), requests=tuple(self._requests(int(now))), logs=logs)
            logs = ()
            if self._frozen:
                await asyncio.Event().wait()
            await asyncio.sleep(self.interval)

    async def ask(self, path: str, **query: str | int | None) -> Any:
        """What the admin API would answer."""
        return self._answers.to(path)

    def _requests(self, now: int) -> list[RequestRecord]:
        found = [record for second in range(self._given, now) for record in self._world.requests(second)]
        self._given = max(self._given, now)
        return found
