"""Taking over a changed models.yaml while requests run: appliance.models.router, with real worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from appliance.alias_spec import ModelsFile
from appliance.config import RequestLimits
from appliance.errors import RequestError
from appliance.models.launcher import WorkerLink
from appliance.models.registry import Means
from appliance.models.residency import NoRoom, Resident, Room, RoomEnough, RoomFinder
from appliance.models.router import Router
from appliance.models.snapshot import InstanceState
from appliance.types import ModelSpec
from tests.fakes.forking_launcher import ForkingLauncher
from tests.fakes.gate import Gate
from tests.unit.models.test_residency import House, Only, spec


class Launching:
    """Workers load as `mode` says when they are started."""

    def __init__(self) -> None:
        self.mode = "ok"

    async def launch(self) -> WorkerLink:
        return await ForkingLauncher(self.mode).launch()

    def prepare(self) -> None: ...


class Changing(House):
    """A router whose models.yaml changes; `outcomes` of replacements, in turn."""

    def __init__(self, specs: Sequence[ModelSpec], finder: RoomFinder) -> None:
        self.launcher = Launching()
        super().__init__(Router(ModelsFile(models=tuple(specs)), RequestLimits(), Means(self.launcher, finder=finder)))
        self.outcomes: list[tuple[str, str | None]] = []
        self.router.start()

    def apply(self, *specs: ModelSpec) -> list[str]:
        changes = self.router.registry.apply(
            ModelsFile(models=specs), 60, lambda model, failure: self.outcomes.append((model, failure))
        )
        return [f"{change.action} {change.model}" for change in changes]

    async def replaced(self, count: int = 1) -> None:
        await self.until(lambda: len(self.outcomes) >= count)
        await self.until(lambda: len(self.router.registry.instances()) == len(self.router.specs()))


@pytest.fixture(params=[RoomEnough(), Only(1)], ids=["beside", "after"])
async def one(request: pytest.FixtureRequest) -> AsyncIterator[Changing]:
    """One model, and room for one more or for none."""
    house = Changing([spec("a")], request.param)
    yield house
    await house.router.close(0)


@pytest.fixture
async def house() -> AsyncIterator[Changing]:
    house = Changing([spec("a"), spec("b", aliases=("x",))], RoomEnough())
    yield house
    await house.router.close(0)


async def test_models_come_and_go(house: Changing, gate: Gate) -> None:
    await house.ask("a")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.ask("a", f"say:first {gate.word} say:_last"))
        await house.until(lambda: house.router.snapshots()["a"].outstanding == 1)
        assert house.apply(spec("c", aliases=("x",)), spec("b")) == ["add c", "adjust b", "remove a"]
        with pytest.raises(RequestError) as refused:
            await house.ask("a")
        assert refused.value.code == "model_not_found"
        assert house.router.registry.find("a") is None
        assert [found.id for found in house.router.specs()] == ["c", "b"]
        named = house.router.registry.find("x")
        assert named is not None and named.spec.id == "c"
        gate.open()
    assert running.result() == "first last"
    assert await house.ask("c") == "hello"
    await house.until(lambda: len(house.router.registry.instances()) == 2)


async def test_what_counts_at_once_keeps_the_worker(house: Changing) -> None:
    await house.ask("b")
    pid = house.router.snapshots()["b"].pid
    assert house.apply(spec("a"), spec("b", ttl=0.1, pinned=True)) == ["adjust b"]
    assert house.router.snapshots()["b"].pid == pid
    assert house.router.snapshots()["b"].pinned
    assert house.apply(spec("a"), spec("b", ttl=0.1)) == ["adjust b"]
    assert house.apply(spec("a"), spec("b", ttl=0.1)) == []
    await house.ask("b")
    await house.until(lambda: house.state("b") is InstanceState.STOPPED)


async def test_a_model_that_is_not_loaded_is_replaced_where_it_lies(house: Changing) -> None:
    assert house.apply(spec("a", n_ctx=4096), spec("b")) == ["replace a", "adjust b"]
    await house.replaced()
    assert house.outcomes == [("a", None)]
    assert (house.loaded(), house.router.specs()[0].n_ctx) == (set(), 4096)


@pytest.mark.slow
async def test_a_replacement_fails_no_request_and_cuts_none(one: Changing) -> None:
    await one.ask("a")
    pid = one.router.snapshots()["a"].pid
    stop = asyncio.Event()

    async def client(number: int) -> int:
        asked = 0
        # Whatever a slow machine has time for, before and after.
        while not stop.is_set() or asked < 3:
            script = f"say:{number}-{asked} sleep:0.02 say:_more"
            assert await one.ask("a", script) == f"{number}-{asked} more"
            asked += 1
        return asked

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(client(number)) for number in range(8)]
        await asyncio.sleep(0.1)
        for n_ctx in (4096, 2048):
            one.outcomes.clear()
            one.apply(spec("a", n_ctx=n_ctx))
            await one.replaced()
        await asyncio.sleep(0.1)
        stop.set()
    assert all(done.result() > 2 for done in clients)
    assert one.router.snapshots()["a"].pid not in (None, pid)
    assert (one.router.registry.instances()[0].generation, one.router.snapshots()["a"].restarts) == (3, 0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fail", "crash"])
async def test_what_cannot_be_loaded_leaves_the_old_one(one: Changing, mode: str) -> None:
    await one.ask("a")
    one.launcher.mode = mode
    one.apply(spec("a", n_ctx=4096))
    await one.until(lambda: len(one.outcomes) == 1)
    one.launcher.mode = "ok"
    ((model, failure),) = one.outcomes
    assert model == "a" and failure
    instance = one.router.registry.instance("a")
    assert instance is not None
    await one.until(lambda: one.state("a") in (InstanceState.READY, InstanceState.FAILED))
    instance.load()
    await one.until(lambda: one.state("a") is InstanceState.READY)
    assert await one.ask("a") == "hello"
    assert one.router.specs()[0].n_ctx == 8192


async def test_another_file_of_the_same_name_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    listed = ModelSpec(id="a", path=str(path))
    house = Changing([listed], RoomEnough())
    try:
        await house.ask("a")
        assert house.router.registry.plan(ModelsFile(models=(listed,))) == ()
        path.with_name("new").write_bytes(b"another")
        path.with_name("new").replace(path)
        (change,) = house.router.registry.plan(ModelsFile(models=(listed,)))
        assert (change.action, change.what) == ("replace", ("file",))
        house.apply(listed)
        await house.replaced()
        assert house.router.registry.plan(ModelsFile(models=(listed,))) == ()
        path.unlink()
        assert house.router.registry.plan(ModelsFile(models=(listed,))) == (), "what is loaded serves on"
    finally:
        await house.router.close(0)


@pytest.mark.slow
async def test_a_replacement_waits_for_no_room_that_others_hold(tmp_path: Path) -> None:
    """Both models are loaded, and there is room for no third: one makes room for its own successor."""

    class Two(RoomEnough):
        def find(self, spec: ModelSpec, residents: Sequence[Resident], leaving: Sequence[Resident]) -> Room | NoRoom:
            if len(residents) < 2:
                return Room(spec=spec)
            return NoRoom(reason="two are loaded", waits=True)

    house = Changing([spec("a"), spec("b")], Two())
    try:
        await house.ask("a")
        await house.ask("b")
        house.apply(spec("a", n_ctx=4096), spec("b", n_ctx=4096))
        await house.replaced(2)
        assert house.outcomes == [("a", None), ("b", None)]
        assert house.loaded() == {"a", "b"}
    finally:
        await house.router.close(0)
