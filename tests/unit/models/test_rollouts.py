"""appliance.models.rollouts, with real worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from appliance.alias_spec import AliasSpec, ModelsFile
from appliance.config import RequestLimits
from appliance.errors import ChangeRefused
from appliance.models.launcher import WorkerLink
from appliance.models.registry import Means
from appliance.models.residency import RoomEnough, RoomFinder
from appliance.models.rollout import RolloutPlan
from appliance.models.rollouts import Rollout, Rollouts
from appliance.models.router import Router
from appliance.models.snapshot import InstanceState
from appliance.telemetry.recent_answers import RecentAnswers
from appliance.telemetry.request_record import Outcome, RequestRecord
from tests.fakes.forking_launcher import ForkingLauncher
from tests.fakes.gate import Gate
from tests.unit.models.test_residency import House, Only, spec

PLAN = RolloutPlan(model="new", steps=(10, 100), hold_seconds=0, answers_min=2)
MIRRORED = RolloutPlan(model="new", steps=(100,), hold_seconds=0, answers_min=1, mirror=True)
ALIAS = {"chat": AliasSpec(versions={"old": 1})}


class Launching:
    """mode: how the next worker's load goes."""

    mode = "ok"

    async def launch(self) -> WorkerLink:
        return await ForkingLauncher(self.mode).launch()

    def prepare(self) -> None: ...


class Rolling(House):
    """A router with `old`, `new` and an alias of the first; time stands still but for `now`."""

    def __init__(self, path: Path, finder: RoomFinder) -> None:
        self.launcher = Launching()
        file = ModelsFile(models=(spec("old"), spec("new")), aliases=ALIAS)
        super().__init__(Router(file, RequestLimits(), Means(self.launcher, finder=finder)))
        self.now = 1000.0
        self.recent = RecentAnswers()
        self.told: list[tuple[str, str]] = []
        self.path = path
        self.rollouts = self.opened()
        self.router.start()

    def opened(self) -> Rollouts:
        return Rollouts(
            self.router.registry,
            self.recent,
            self.path,
            lambda: self.now,
            lambda alias, what, reason: self.told.append((what, reason)),
            lambda: 60.0,
            look_seconds=0.01,
        )

    def answer(self, model: str, count: int = 1, *, failed: bool = False) -> Literal[False]:
        """Each of them takes a second of the clock."""
        outcome: Outcome = "failed" if failed else "ok"
        for _ in range(count):
            self.recent.add(
                RequestRecord(
                    id="r",
                    time=self.now,
                    address="a",
                    method="POST",
                    path="/",
                    outcome=outcome,
                    status=503 if failed else 200,
                    total_seconds=0.0,
                    model=model,
                )
            )
            self.now += 1
        return False

    @property
    def rollout(self) -> Rollout:
        found = self.rollouts.find("chat")
        assert found is not None
        return found

    def weights(self) -> dict[str, float]:
        return dict(self.router.registry.routes.weights("chat"))

    async def at(self, percent: float) -> None:
        await self.until(lambda: self.weights().get("new") == percent and self.rollout.phase == "stepping")

    async def close(self) -> None:
        await self.rollouts.close()
        await self.router.close(0)


@asynccontextmanager
async def rolling(path: Path, finder: RoomFinder) -> AsyncIterator[Rolling]:
    house = Rolling(path, finder)
    try:
        yield house
    finally:
        await house.close()


Opened = Callable[..., Awaitable[Rolling]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:

        async def start(finder: RoomFinder | None = None) -> Rolling:
            return await stack.enter_async_context(rolling(tmp_path / "rollouts.json", finder or RoomEnough()))

        yield start


async def test_step_by_step_to_the_new_version_and_back_on_demand(opened: Opened) -> None:
    house = await opened()
    await house.ask("old")
    await house.rollouts.begin("chat", PLAN)
    assert house.weights() == {"old": 1}, "nobody gets it before it is loaded"
    await house.at(10)
    assert house.loaded() == {"old", "new"} and house.weights() == {"new": 10, "old": 90}
    house.answer("new", 2)
    await house.at(100)
    house.answer("new", 2)
    await house.until(lambda: house.rollout.phase == "done")
    assert house.told == [("10 %", ""), ("100 %", ""), ("done", "")]
    assert house.weights() == {"new": 100}
    await house.rollouts.roll_back("chat")
    assert house.weights() == {"old": 1}
    await house.until(lambda: house.told[-1] == ("rolled_back", "by an administrator"))
    with pytest.raises(ChangeRefused, match="no rollout"):
        await house.rollouts.roll_back("chat")


async def test_a_new_version_that_fails_more_is_taken_back(opened: Opened) -> None:
    house = await opened()
    house.answer("old", 100)
    await house.rollouts.begin("chat", PLAN)
    await house.at(10)
    house.answer("new", 2, failed=True)
    await house.until(lambda: house.rollout.phase == "rolled_back")
    assert house.weights() == {"old": 1} and "2 of 2 answers failed" in house.rollout.reason
    assert "was rolled back: 2 of 2" in house.rollouts.notes()[0]
    assert "new" in house.loaded(), "it is left for whoever looks for the reason"


async def test_one_that_cannot_be_loaded_gets_nobody(opened: Opened) -> None:
    house = await opened()
    house.launcher.mode = "fail"
    await house.rollouts.begin("chat", PLAN)
    await house.until(lambda: house.rollout.phase == "rolled_back")
    assert house.rollout.reason.startswith("it cannot serve: ") and house.weights() == {"old": 1}
    house.launcher.mode = "ok"
    await house.rollouts.begin("chat", PLAN)
    await house.at(10)


async def test_without_room_for_both_the_old_one_leaves_first(opened: Opened, gate: Gate) -> None:
    house = await opened(Only(1))
    await house.ask("old")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.ask("old", f"say:first {gate.word} say:_last"))
        await house.until(lambda: house.router.snapshots()["old"].outstanding == 1)
        await house.rollouts.begin("chat", PLAN)
        await house.until(lambda: house.state("old") is InstanceState.DRAINING)
        gate.open()
        await house.at(100)
    assert running.result() == "first last"
    assert house.loaded() == {"new"} and house.rollout.swapped
    house.answer("new", 2, failed=True)
    await house.until(lambda: house.loaded() == {"old"} and house.state("old") is InstanceState.READY)
    assert house.weights() == {"old": 1}
    with pytest.raises(ChangeRefused, match="mirror"):
        await house.rollouts.begin("chat", RolloutPlan(model="new", mirror=True))


async def test_copies_come_first_where_they_are_asked_for(opened: Opened) -> None:
    house = await opened()
    await house.rollouts.begin("chat", MIRRORED)

    def mirror() -> str | None:
        found = house.router.find("chat", "me", "", ())
        return None if found is None else found.mirror

    await house.until(lambda: mirror() == "new")
    assert house.rollout.phase == "mirroring" and house.weights() == {"old": 1}
    house.answer("new")
    await house.at(100)
    assert mirror() is None


async def test_a_restart_goes_on_from_the_step_it_was_at(opened: Opened) -> None:
    house = await opened()
    await house.rollouts.begin("chat", PLAN)
    await house.until(lambda: house.told == [("10 %", "")])
    await house.rollouts.close()
    house.router.registry.routes.set_weights("chat", None)
    house.rollouts = house.opened()
    assert house.weights() == {"new": 10, "old": 90}
    house.rollouts.start()
    await house.until(lambda: house.answer("new") or house.weights() == {"new": 100})


@pytest.mark.parametrize("damage", [b"{", b'{"rollouts":1}', b"\xff"])
async def test_a_damaged_file_leaves_the_aliases_as_listed(opened: Opened, damage: bytes) -> None:
    house = await opened()
    house.path.write_bytes(damage)
    house.path.chmod(0o600)
    house.rollouts = house.opened()
    assert house.rollouts.find("chat") is None and house.weights() == {"old": 1}


async def test_another_models_yaml_ends_it(opened: Opened) -> None:
    house = await opened()
    await house.rollouts.begin("chat", PLAN)
    await house.at(10)
    changed = ModelsFile(models=(spec("old"), spec("new")), aliases={"chat": AliasSpec(versions={"old": 1, "new": 1})})
    house.router.registry.apply(changed, 5.0, lambda model, failure: None)
    assert house.weights() == {"old": 1, "new": 1}
    await house.until(lambda: ("rolled_back", "models.yaml has changed the alias or its versions") in house.told)
    assert house.weights() == {"old": 1, "new": 1} and house.rollouts.find("chat") is None


@pytest.mark.parametrize(
    ("alias", "plan", "code", "says"),
    [
        ("talk", PLAN, "not_found", "no alias 'talk' in models.yaml; known: chat"),
        ("old", PLAN, "not_found", "no alias 'old'"),
        ("chat", RolloutPlan(model="newer"), "not_found", "appliance models apply"),
        ("chat", RolloutPlan(model="old"), "conflict", "leads to 'old' already"),
        ("chat", RolloutPlan(model="new", steps=(50, 5)), "invalid", "rise"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    opened: Opened, alias: str, plan: RolloutPlan, code: str, says: str
) -> None:
    house = await opened()
    with pytest.raises(ChangeRefused, match=says) as refused:
        await house.rollouts.begin(alias, plan)
    assert refused.value.code == code


async def test_one_at_a_time(opened: Opened) -> None:
    house = await opened()
    await house.rollouts.begin("chat", PLAN)
    with pytest.raises(ChangeRefused, match="under way"):
        await house.rollouts.begin("chat", PLAN)
    await house.rollouts.roll_back("chat")
    await house.until(lambda: house.rollout.phase == "rolled_back")
    assert house.weights() == {"old": 1}
    await house.rollouts.begin("chat", PLAN)
