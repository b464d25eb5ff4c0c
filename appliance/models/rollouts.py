"""Rollouts: an alias moves to a new version step by step, and back by itself where that is worse than the old one.

The new version is loaded beside the old one where there is room, and asked for a token. Where there is none the old one
leaves first; who asks meanwhile waits for the new one. What a rollout has made of an alias outlives a restart, in
`<state>/store/rollouts.json`, and counts until models.yaml gives that alias other versions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from appliance.errors import ChangeRefused, StateError
from appliance.models.registry import Registry
from appliance.models.rollout import Judgement, RolloutPlan, fault_of, judge, weights_at
from appliance.state_dir import read_private, write_atomic
from appliance.tasks import TaskOwner
from appliance.telemetry.recent_answers import AnswerFigures, RecentAnswers

FILE_BYTES_MAX: Final = 4 * 2**20
LOOK_SECONDS: Final = 1.0
# The old version's answers of this long before a rollout are compared with, too: at the last step it has none.
BEFORE_SECONDS: Final = 3600.0
# How long the status has a rollback in it.
NOTED_SECONDS: Final = 3 * 86_400.0

Phase = Literal["loading", "mirroring", "stepping", "done", "rolled_back"]
# Told the alias, the phase or the step it has come to, and the reason where there is one.
Told = Callable[[str, str, str], None]

_log = logging.getLogger(__name__)


class Rollout(Struct, frozen=True, kw_only=True):
    """One alias and its newest rollout. Times are UTC seconds since 1970.

    listed: the versions in models.yaml that it began from. before: their weights then; a rollback brings them back.
    weights: now. step: index of plan.steps. since: of this step. swapped: there was no room for both.
    """

    alias: str
    plan: RolloutPlan
    listed: dict[str, float]
    before: dict[str, float]
    weights: dict[str, float]
    began: float
    since: float
    phase: Phase = "loading"
    step: int = 0
    swapped: bool = False
    reason: str = ""

    @property
    def under_way(self) -> bool:
        """Whether it has not come to its end."""
        return self.phase not in ("done", "rolled_back")

    @property
    def old(self) -> tuple[str, ...]:
        """The versions that answered before."""
        return tuple(version for version, weight in self.before.items() if weight and version != self.plan.model)


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rollouts: list[Rollout] = field(default_factory=list)


class _Worse(Exception):
    """The new version is, or can no longer be compared."""


class Rollouts:
    """Belongs to the event loop. clock: UTC seconds since 1970. drain_seconds: of an old version that must leave."""

    def __init__(
        self,
        registry: Registry,
        recent: RecentAnswers,
        path: Path,
        clock: Callable[[], float],
        told: Told,
        drain_seconds: Callable[[], float],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Reads the file: for the start."""
        self._registry = registry
        self._recent = recent
        self._path = path
        self._clock = clock
        self._told = told
        self._drain_seconds = drain_seconds
        self._look_seconds = look_seconds
        self._known: dict[str, Rollout] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._saving = asyncio.Lock()
        self._tasks = TaskOwner("rollouts")
        self._restore()

    def start(self) -> None:
        """Goes on with those that were under way when the process ended; a step begins anew."""
        for rollout in list(self._known.values()):
            if rollout.under_way:
                self._spawn(replace(rollout, since=self._clock()))

    async def close(self) -> None:
        """Leaves them as they are: the next start goes on."""
        await self._tasks.close()

    def find(self, alias: str) -> Rollout | None:
        """The newest one of an alias, as far as it still counts."""
        rollout = self._known.get(alias)
        return rollout if rollout is not None and self._counts(rollout) else None

    def notes(self) -> list[str]:
        """For an operator: what is under way, and what has been rolled back in the last days."""
        notes = []
        for alias in self._known:
            rollout = self.find(alias)
            if rollout is None:
                continue
            to = f"alias {alias}: the rollout of {rollout.plan.model}"
            if rollout.under_way:
                notes.append(f"{to} is {rollout.phase} ({rollout.reason or 'it has just begun'})")
            elif rollout.phase == "rolled_back" and self._clock() - rollout.since < NOTED_SECONDS:
                notes.append(f"{to} was rolled back: {rollout.reason}")
        return notes

    def figures(self, rollout: Rollout) -> tuple[AnswerFigures, AnswerFigures]:
        """Of the new version in this step, and of the old ones."""
        new = self._recent.figures(rollout.plan.model, since=rollout.since)
        return new, self._recent.figures(*rollout.old, since=rollout.began - BEFORE_SECONDS)

    async def check(self, alias: str, plan: RolloutPlan) -> None:
        """Raises ChangeRefused where `begin` would."""
        spec = self._registry.routes.aliases().get(alias)
        if spec is None:
            known = ", ".join(self._registry.routes.aliases()) or "none, add it under `aliases`"
            raise ChangeRefused("not_found", f"there is no alias {alias!r} in models.yaml; known: {known}")
        if plan.model not in (known_ids := [model.id for model in self._registry.specs()]):
            raise ChangeRefused(
                "not_found",
                f"there is no model {plan.model!r} in models.yaml; add it and run `appliance models apply`; "
                f"known: {', '.join(known_ids)}",
            )
        if (fault := fault_of(plan)) is not None:
            raise ChangeRefused("invalid", fault)
        if alias in self._running:
            raise ChangeRefused("conflict", f"a rollout of {alias!r} is under way; `appliance models rollback` ends it")
        if [version for version, weight in self._registry.routes.weights(alias).items() if weight] == [plan.model]:
            raise ChangeRefused("conflict", f"{alias!r} leads to {plan.model!r} already")
        if plan.mirror and not await self._registry.fits_beside(plan.model):
            raise ChangeRefused(
                "conflict", f"there is no room for {plan.model!r} beside the old one, as a mirror needs"
            )

    async def begin(self, alias: str, plan: RolloutPlan) -> Rollout:
        """Begins one. Raises ChangeRefused."""
        await self.check(alias, plan)
        now = self._clock()
        weights = dict(self._registry.routes.weights(alias))
        listed = dict(self._registry.routes.aliases()[alias].versions)
        rollout = Rollout(alias=alias, plan=plan, listed=listed, before=weights, weights=weights, began=now, since=now)
        self._spawn(rollout)
        await self._save()
        return rollout

    def check_back(self, alias: str) -> Rollout:
        """The newest rollout, where it can be rolled back. Raises ChangeRefused."""
        rollout = self.find(alias)
        if rollout is None or rollout.phase == "rolled_back":
            raise ChangeRefused("conflict", f"there is no rollout of {alias!r} that could be rolled back")
        return rollout

    async def roll_back(self, alias: str) -> Rollout:
        """Sends everybody back at once, whether it is under way or done. Raises ChangeRefused."""
        self.check_back(alias)
        task = self._running.pop(alias, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        rollout = self._known[alias]
        rollout = await self._weigh(rollout, rollout.before)
        self._running[alias] = self._tasks.spawn(self._back(rollout, "by an administrator"), name="rollback")
        return rollout

    # ── one rollout ───────────────────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, rollout: Rollout) -> None:
        self._known[rollout.alias] = rollout
        self._running[rollout.alias] = self._tasks.spawn(self._run(rollout.alias), name=f"rollout of {rollout.alias}")

    async def _run(self, alias: str) -> None:
        try:
            await self._bring_up(self._known[alias])
            if self._known[alias].phase == "loading" and self._known[alias].plan.mirror:
                await self._mirror(self._known[alias])
            await self._climb(alias)
        except _Worse as worse:
            await self._back(self._known[alias], str(worse))
        except Exception as error:
            _log.exception("the rollout of %s failed", alias)
            await self._back(self._known[alias], f"an internal error: {type(error).__name__}")

    async def _bring_up(self, rollout: Rollout) -> None:
        """Loads the new version and has it answer. Raises _Worse."""
        registry, plan = self._registry, rollout.plan
        if not await registry.fits_beside(plan.model):
            rollout = await self._note(replace(rollout, swapped=True, step=len(plan.steps) - 1))
            await self._swap(rollout)
        failure = await registry.bring_up(plan.model)
        if failure is not None:
            raise _Worse(f"it cannot serve: {failure}")

    async def _swap(self, rollout: Rollout) -> None:
        """Sends everybody to the new version, which waits for the old one's end."""
        await self._weigh(rollout, weights_at(rollout.plan.model, 100, rollout.before))
        leaving = [
            model.unload(self._drain_seconds())
            for version in rollout.old
            if (model := self._registry.instance(version)) is not None
        ]
        if leaving:
            await asyncio.shield(asyncio.wait(leaving))

    async def _mirror(self, rollout: Rollout) -> None:
        rollout = await self._note(replace(rollout, phase="mirroring", since=self._clock()))
        self._registry.routes.set_mirror(rollout.alias, rollout.plan.model)
        try:
            await self._hold(rollout)
        finally:
            self._registry.routes.set_mirror(rollout.alias, None)

    async def _climb(self, alias: str) -> None:
        rollout = self._known[alias]
        for step in range(rollout.step, len(rollout.plan.steps)):
            percent = rollout.plan.steps[step]
            rollout = await self._note(replace(rollout, phase="stepping", step=step, since=self._clock()))
            rollout = await self._weigh(rollout, weights_at(rollout.plan.model, percent, rollout.before))
            self._told(alias, f"{percent:g} %", "")
            await self._hold(rollout)
        await self._end(replace(rollout, phase="done", reason=""))

    async def _hold(self, rollout: Rollout) -> None:
        """Until the step has lasted long enough. Raises _Worse."""
        while (judgement := self._judge(rollout)).verdict != "go_on":
            if not self._counts(rollout):
                raise _Worse("models.yaml has changed the alias or its versions")
            if judgement.verdict == "roll_back":
                raise _Worse(judgement.reason)
            self._known[rollout.alias] = replace(rollout, reason=judgement.reason)
            await asyncio.sleep(self._look_seconds)

    def _judge(self, rollout: Rollout) -> Judgement:
        new, old = self.figures(rollout)
        return judge(rollout.plan, new, old, self._clock() - rollout.since)

    async def _back(self, rollout: Rollout, reason: str) -> None:
        _log.error("alias %s is rolled back from %s: %s", rollout.alias, rollout.plan.model, reason)
        if self._counts(rollout):
            rollout = await self._weigh(rollout, rollout.before)
            if rollout.swapped:
                await self._swap_back(rollout)
        await self._end(replace(rollout, phase="rolled_back", reason=reason))

    async def _end(self, rollout: Rollout) -> None:
        self._running.pop(rollout.alias, None)
        self._told(rollout.alias, rollout.phase, rollout.reason)
        await self._note(replace(rollout, since=self._clock()))

    async def _swap_back(self, rollout: Rollout) -> None:
        new = self._registry.instance(rollout.plan.model)
        if new is not None:
            await asyncio.shield(new.unload(self._drain_seconds()))
        for version in rollout.old:
            if (model := self._registry.instance(version)) is not None:
                model.load()

    def _counts(self, rollout: Rollout) -> bool:
        """Whether models.yaml still has what it began from."""
        spec = self._registry.routes.aliases().get(rollout.alias)
        ids = {model.id for model in self._registry.specs()}
        wanted = {rollout.plan.model, *rollout.weights, *rollout.before}
        return spec is not None and spec.versions == rollout.listed and ids >= wanted

    # ── what is known ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _weigh(self, rollout: Rollout, weights: Mapping[str, float]) -> Rollout:
        self._registry.routes.set_weights(rollout.alias, weights)
        return await self._note(replace(rollout, weights=dict(weights)))

    async def _note(self, rollout: Rollout) -> Rollout:
        self._known[rollout.alias] = rollout
        await self._save()
        return rollout

    async def _save(self) -> None:
        data = msgspec.json.encode(_File(rollouts=list(self._known.values())))
        async with self._saving:
            try:
                await asyncio.to_thread(write_atomic, self._path, data)
            except StateError as error:
                _log.error("a restart will not know how far the rollouts are: %s", error)

    def _restore(self) -> None:
        if not self._path.exists():
            return
        try:
            found = msgspec.json.decode(read_private(self._path, FILE_BYTES_MAX), type=_File).rollouts
        except (StateError, ValueError, RecursionError) as error:
            _log.error("%s cannot be read (%s): the aliases lead where models.yaml says", self._path, error)
            return
        for rollout in found:
            if self._counts(rollout):
                self._known[rollout.alias] = rollout
                self._registry.routes.set_weights(rollout.alias, rollout.weights)
