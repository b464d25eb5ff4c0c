"""The demo as a source: a made-up appliance that goes on in real time, or stands still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from appliance.telemetry.request_filter import parse
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot
from tui.demo.answers import Answers
from tui.demo.deeds import Deeds
from tui.demo.scenario import ScenarioName, scenario_of
from tui.demo.world import World
from tui.source import Act, Identity, Planned, Surroundings, Update

# 2026-11-20 03:14:15 +08: the moment that documents and tests show.
FROZEN_MOMENT: Final = 1_795_115_655.0
HISTORY_SECONDS: Final = 1200
_HISTORY_POINTS: Final = 180
# What the request log has, and how much of it is looked at for one page.
_KEPT_SECONDS: Final = 4 * 3600
_SCANNED_SECONDS: Final = 1800


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
        self._start = now()
        self._role = role
        chosen = scenario_of(scenario)
        if requests_per_second is not None:
            chosen = replace(chosen, requests_per_second=requests_per_second)
        self._seed = seed
        self._deeds = Deeds(chosen)
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

    async def recording(self, since: float, until: float) -> Sequence[Snapshot]:
        """Every second of it."""
        return tuple(self._world.snapshot(float(second)) for second in range(int(since), int(until)))

    async def updates(self) -> AsyncGenerator[Update, None]:
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
        path, _, text = path.partition("?")
        if path == "/requests":
            return self._page({**dict(parse_qsl(text)), **query})
        return self._deeds.seen(path, self._answers.to(path))

    async def plan(self, path: str, body: dict[str, Any]) -> Planned:
        """Acts on the demo alone."""
        return Planned(answer=self._deeds.do(path, body, plan=True), generation=1)

    async def act(self, act: Act) -> Any:
        """Acts on the demo alone."""
        answer = self._deeds.do(act.path, act.body, plan=False)
        self._world = World(self._seed, self._deeds.scenario, self._start)
        self._answers = Answers(self._deeds.scenario, self._start)
        return answer

    async def surroundings(self) -> Surroundings | None:
        """As after the kernel has ended it for want of memory."""
        return Surroundings(
            facts=(
                ("systemd", "appliance.service failed (Result: oom-kill) since 03:24:55, restarts 3", False),
                ("gpu", "GPU 0 used 921 of 81559 MiB, 0%, 38C", True),
                ("port", "8443 not listening", False),
                ("disk", "812G free of 1800G", True),
            ),
            journal=(
                "03:24:55 kernel: Out of memory: Killed process 4242 (appliance) rss 201G",
                "03:24:55 systemd[1]: appliance.service: Main process exited, status=9/KILL",
            ),
        )

    async def close(self) -> None:
        """Nothing to end."""

    def _page(self, query: Mapping[str, str | int | None]) -> dict[str, Any]:
        """Of what there was in the last hours; `before` is a second."""
        wanted, limit = parse(str(query.get("filter") or "")), int(query.get("limit") or 100)
        now, first = int(self._start), int(self._start) - _KEPT_SECONDS
        top = min(int(query.get("before") or now), now)
        found: list[RequestRecord] = []
        second = top
        while second > max(first, top - _SCANNED_SECONDS) and len(found) < limit:
            second -= 1
            found += [one for one in reversed(list(self._world.requests(second))) if wanted.matches(one, self._start)]
        return {"requests": msgspec.to_builtins(found), "before": second if second > first else None}

    def _requests(self, now: int) -> list[RequestRecord]:
        found = [record for second in range(self._given, now) for record in self._world.requests(second)]
        self._given = max(self._given, now)
        return found
