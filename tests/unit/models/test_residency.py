"""appliance.models.residency and the lives of appliance.models.instance, with real worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from appliance.alias_spec import ModelsFile
from appliance.config import RequestLimits, WorkerLimits
from appliance.errors import RequestError
from appliance.models import instance as instance_module
from appliance.models.registry import Means
from appliance.models.residency import NoRoom, Outlook, Resident, Room, RoomEnough, RoomFinder, decide
from appliance.models.router import Router
from appliance.models.snapshot import InstanceState
from appliance.models.stream import AnswerEnd, AnswerSource, Text
from appliance.placement.estimate import Footprint
from appliance.placement.place import Placement
from appliance.types import ModelSpec, Request, TextPrompt
from tests.fakes.forking_launcher import ForkingLauncher
from tests.fakes.gate import Gate
from tests.waiting import until

READY, STOPPED = InstanceState.READY, InstanceState.STOPPED


def spec(model: str, **fields: object) -> ModelSpec:
    return ModelSpec(id=model, path="/nowhere.gguf", **fields)  # type: ignore[arg-type]


def resident(
    model: str, used_at: float = 0.0, *, busy: bool = False, pinned: bool = False, **fields: object
) -> Resident:
    return Resident(name=model, spec=spec(model, **fields), busy=busy, pinned=pinned, used_at=used_at)


def request(model: str, script: str = "say:hello", keep: float | None = None) -> Request:
    return Request(
        id="r", model=model, principal="p", prompt=TextPrompt(text=script), cache_domain="p", keep_seconds=keep
    )


async def read(source: AnswerSource) -> str:
    text = ""
    while True:
        event = await source.next()
        if isinstance(event, AnswerEnd):
            return text
        if isinstance(event, Text):
            text += event.text


class House:
    """A router with workers that do what they are told."""

    def __init__(self, router: Router) -> None:
        self.router = router

    async def ask(self, model: str, script: str = "say:hello", keep: float | None = None) -> str:
        with self.router.submit(request(model, script, keep)) as source:
            return await read(source)

    def state(self, model: str) -> InstanceState:
        return self.router.snapshots()[model].state

    def loaded(self) -> set[str]:
        return {model for model, one in self.router.snapshots().items() if one.pid is not None}

    async def until(self, holds: Callable[[], bool]) -> None:
        await until(holds)


@asynccontextmanager
async def opened(
    *specs: ModelSpec, finder: RoomFinder | None = None, load: str = "ok", worker: WorkerLimits | None = None
) -> AsyncIterator[House]:
    launcher = ForkingLauncher(load)
    router = Router(
        ModelsFile(models=tuple(specs)),
        RequestLimits(),
        Means(launcher, worker or WorkerLimits(), finder=finder or RoomEnough()),
    )
    router.start()
    try:
        yield House(router)
    finally:
        await router.close(0)


OpenHouse = Callable[..., Awaitable[House]]


@pytest.fixture
async def open_house() -> AsyncIterator[OpenHouse]:
    async with AsyncExitStack() as stack:

        async def enter(*specs: ModelSpec, **options: object) -> House:
            return await stack.enter_async_context(opened(*specs, **options))  # type: ignore[arg-type]

        yield enter


class Only(RoomEnough):
    """Memory for so many models: the least recently used one goes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def find(self, spec: ModelSpec, residents: Sequence[Resident], leaving: Sequence[Resident]) -> Room | NoRoom:
        idle = sorted((one for one in residents if not (one.busy or one.pinned)), key=lambda one: one.used_at)
        missing = len(residents) + 1 - self.count
        if missing > len(idle):
            return NoRoom(reason="no room", waits=any(one.busy and not one.pinned for one in residents))
        return Room(spec=spec, evict=tuple(one.name for one in idle[: max(0, missing)]))


# The decision.


def test_of_a_group_one_is_loaded_at_a_time() -> None:
    rival, other = resident("a", group="big"), resident("b", group="small")
    found = decide(spec("new", group="big"), [rival, other], RoomEnough())
    assert found == Room(spec=spec("new", group="big"), evict=("a",))
    assert decide(spec("new"), [rival, other], RoomEnough()) == Room(spec=spec("new"))


def test_a_rival_that_is_busy_is_waited_for_and_one_that_is_pinned_is_not() -> None:
    busy, pinned = resident("a", busy=True, group="big"), resident("b", pinned=True, group="big")
    found = decide(spec("new", group="big"), [busy], RoomEnough())
    assert isinstance(found, NoRoom) and found.waits and "'a'" in found.reason
    found = decide(spec("new", group="big"), [busy, pinned], RoomEnough())
    assert isinstance(found, NoRoom) and not found.waits and "pinned" in found.reason


def test_memory_is_asked_about_those_that_stay_and_told_of_those_that_go() -> None:
    asked: list[list[str]] = []

    class Asked(RoomEnough):
        def find(self, spec: ModelSpec, residents: Sequence[Resident], leaving: Sequence[Resident]) -> Room | NoRoom:
            asked.append([one.name for one in (*residents, *leaving)])
            return Room(spec=spec, evict=("c",))

    residents = [resident("a", group="big"), resident("b"), resident("c")]
    assert decide(spec("new", group="big"), residents, Asked()) == Room(spec=spec("new", group="big"), evict=("a", "c"))
    assert asked == [["b", "c", "a"]]


# Loading and unloading.


async def test_a_model_that_is_unloaded_comes_back_with_the_next_request(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"))
    assert await house.ask("a") == "hello"
    pid = house.router.snapshots()["a"].pid
    instance = house.router.registry.instance("a")
    assert instance is not None
    await instance.unload(1)
    assert (house.state("a"), house.loaded()) == (STOPPED, set())
    await instance.unload(1)
    assert await house.ask("a") == "hello"
    assert house.router.snapshots()["a"].pid not in (None, pid)
    assert house.router.snapshots()["a"].restarts == 0


async def test_what_runs_ends_first_and_what_comes_waits_for_the_next_worker(open_house: OpenHouse, gate: Gate) -> None:
    house = await open_house(spec("a"))
    await house.ask("a")
    pid = house.router.snapshots()["a"].pid
    instance = house.router.registry.instance("a")
    assert instance is not None
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.ask("a", f"say:first {gate.word} say:_last"))
        await house.until(lambda: house.router.snapshots()["a"].outstanding == 1)
        leaving = instance.unload(60)
        late = group.create_task(house.ask("a", "say:late"))
        await house.until(lambda: house.router.snapshots()["a"].outstanding == 2)
        assert not (running.done() or late.done())
        gate.open()
        await leaving
    assert (running.result(), late.result()) == ("first last", "late")
    assert house.router.snapshots()["a"].pid not in (None, pid)


async def test_a_load_that_is_asked_for_while_it_leaves_follows(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"))
    await house.ask("a")
    instance = house.router.registry.instance("a")
    assert instance is not None
    leaving = instance.unload(1)
    instance.load()
    await leaving
    await house.until(lambda: house.state("a") is READY)


async def test_what_runs_for_too_long_is_cut_with_a_reason(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"))
    await house.ask("a")
    instance = house.router.registry.instance("a")
    assert instance is not None
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(_outcome(house.ask("a", "hang")))
        await house.until(lambda: house.router.snapshots()["a"].outstanding == 1)
        await instance.unload(0.05)
    error = hanging.result()
    assert isinstance(error, RequestError) and error.code == "model_unavailable" and error.retry_after == 1
    assert house.state("a") is STOPPED


async def test_who_waits_for_a_load_is_served_before_it_is_unloaded(open_house: OpenHouse, gate: Gate) -> None:
    house = await open_house(spec("a"), load=gate.word)
    instance = house.router.registry.instance("a")
    assert instance is not None
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(house.ask("a"))
        await house.until(lambda: house.state("a") is InstanceState.STARTING)
        leaving = instance.unload(60)
        gate.open()
        await leaving
    assert waiting.result() == "hello"
    assert house.state("a") is STOPPED


async def test_a_load_that_is_under_way_is_given_up(open_house: OpenHouse, gate: Gate) -> None:
    house = await open_house(spec("a"), load=gate.word)
    instance = house.router.registry.instance("a")
    assert instance is not None
    instance.load()
    await house.until(lambda: house.state("a") is InstanceState.STARTING)
    await asyncio.sleep(0.1)
    await instance.unload(0)
    assert (house.state("a"), house.loaded()) == (STOPPED, set())
    assert house.router.snapshots()["a"].reason is None


async def _outcome(work: Awaitable[str]) -> str | RequestError:
    try:
        return await work
    except RequestError as error:
        return error


async def test_a_preloaded_model_that_is_unloaded_while_it_loads_has_settled(open_house: OpenHouse, gate: Gate) -> None:
    house = await open_house(spec("a", preload=True), load=gate.word)
    instance = house.router.registry.instance("a")
    assert instance is not None
    await house.until(lambda: house.state("a") is InstanceState.STARTING)
    await instance.unload(0)
    async with asyncio.timeout(60):
        await house.router.preloaded()
    assert house.router.settled


# Use.


@pytest.mark.slow
async def test_a_model_without_use_leaves_after_its_time(open_house: OpenHouse) -> None:
    house = await open_house(spec("a", ttl=1.0), spec("b"))
    await house.ask("b")
    await house.ask("a", "say:x sleep:1.2")
    assert house.loaded() == {"a", "b"}, "it was used until now"
    expires = house.router.snapshots()["a"].expires_seconds
    assert expires is not None and expires > 0.1
    # Looking is no use.
    await house.until(lambda: house.loaded() == {"b"})
    assert house.router.snapshots()["b"].expires_seconds is None


async def test_the_longest_wish_counts(open_house: OpenHouse) -> None:
    house = await open_house(spec("a", ttl=30.0))
    await house.ask("a", keep=0)
    expires = house.router.snapshots()["a"].expires_seconds
    assert expires is not None and expires > 20, "it has just been loaded, for which its own ttl counts"
    await house.ask("a", keep=100)
    await house.ask("a", keep=0)
    expires = house.router.snapshots()["a"].expires_seconds
    assert expires is not None and expires > 90


async def test_a_pinned_model_stays(open_house: OpenHouse) -> None:
    house = await open_house(spec("a", ttl=0.1, pinned=True))
    await house.ask("a")
    instance = house.router.registry.instance("a")
    assert instance is not None
    assert house.router.snapshots()["a"].expires_seconds is None
    instance.pin(False)
    await house.until(lambda: not house.loaded())


# Room.


async def test_the_one_that_was_used_least_lately_makes_room(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"), spec("b"), spec("c"), finder=Only(2))
    await house.ask("a")
    await house.ask("b")
    await house.ask("a")
    await house.ask("c")
    assert house.loaded() == {"a", "c"}


async def test_a_busy_model_is_waited_for(open_house: OpenHouse, gate: Gate) -> None:
    house = await open_house(spec("a"), spec("b"), finder=Only(1))
    await house.ask("a")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.ask("a", f"say:x {gate.word} say:y"))
        await house.until(lambda: house.router.snapshots()["a"].outstanding == 1)
        waiting = group.create_task(house.ask("b"))
        await asyncio.sleep(0.1)
        assert house.loaded() == {"a"}
        gate.open()
    assert (running.result(), waiting.result()) == ("xy", "hello")
    assert house.loaded() == {"b"}


async def test_what_can_never_fit_is_refused_at_once(open_house: OpenHouse) -> None:
    house = await open_house(spec("a", pinned=True), spec("b"), finder=Only(1))
    await house.ask("a")
    with pytest.raises(RequestError, match="no room") as refused:
        await house.ask("b")
    assert refused.value.code == "model_unavailable"
    assert house.loaded() == {"a"}


async def test_one_that_waits_for_room_can_be_called_off(open_house: OpenHouse, gate: Gate) -> None:
    house = await open_house(spec("a"), spec("b"), finder=Only(1))
    await house.ask("a")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.ask("a", f"say:x {gate.word}"))
        await house.until(lambda: house.router.snapshots()["a"].outstanding == 1)
        waiting = group.create_task(_outcome(house.ask("b")))
        await house.until(lambda: house.state("b") is InstanceState.STARTING)
        instance = house.router.registry.instance("b")
        assert instance is not None
        await instance.unload(0)
        assert not running.done()
        gate.open()
    assert isinstance(waiting.result(), RequestError)
    assert house.loaded() == {"a"}


@pytest.mark.slow
async def test_many_models_in_turn_answer_every_request(open_house: OpenHouse) -> None:
    names = [f"m{number}" for number in range(5)]
    house = await open_house(*(spec(name) for name in names), finder=Only(2))

    async def client(number: int) -> list[str]:
        return [await house.ask(names[(number + turn) % 5], f"say:{number}-{turn}") for turn in range(6)]

    async with asyncio.timeout(120):
        answers = await asyncio.gather(*(client(number) for number in range(8)))
    assert answers == [[f"{number}-{turn}" for turn in range(6)] for number in range(8)]
    assert len(house.loaded()) <= 2


# Maintenance.


async def test_a_drain_refuses_what_is_new_and_waits_for_what_runs(open_house: OpenHouse, gate: Gate) -> None:
    house = await open_house(spec("a"))
    await house.ask("a")
    assert await house.router.drain(1) == 0
    with pytest.raises(RequestError) as refused:
        await house.ask("a")
    assert (refused.value.code, refused.value.retry_after) == ("shutting_down", 30)
    house.router.resume()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.ask("a", f"say:x {gate.word}"))
        await house.until(lambda: house.router.snapshots()["a"].outstanding == 1)
        assert await house.router.drain(0.01) == 1
        gate.open()
        assert await house.router.drain(60) == 0
    assert running.result() == "x"
    with suppress(RequestError):
        await house.ask("a")
    house.router.resume()
    assert await house.ask("a") == "hello"


# Health.


@pytest.mark.slow
async def test_a_worker_that_is_stuck_without_anybody_waiting_is_restarted(open_house: OpenHouse) -> None:
    limits = WorkerLimits(probe_seconds=0.1, step_seconds_max=2)
    house = await open_house(spec("a"), spec("b"), worker=limits)
    await house.ask("b")
    with house.router.submit(request("a", "say:x freeze")) as source:
        assert await source.next() is not None
        await asyncio.sleep(0.3)
    stuck, other = (house.router.snapshots()[model].pid for model in "ab")
    await house.until(lambda: house.router.snapshots()["a"].pid not in (None, stuck))
    assert await house.ask("a") == "hello"
    assert house.router.snapshots()["b"].pid == other
    assert (house.router.snapshots()["a"].restarts, house.router.snapshots()["b"].restarts) == (1, 0)


async def test_a_probe_is_no_use_of_a_model(open_house: OpenHouse) -> None:
    house = await open_house(spec("a", ttl=0.3), worker=WorkerLimits(probe_seconds=0.05))
    await house.ask("a")
    await house.until(lambda: not house.loaded())
    assert house.router.snapshots()["a"].restarts == 0


async def test_a_worker_that_refuses_a_probe_is_alive(open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_module, "probe_prompt", lambda kind: TextPrompt(text="fail:kv_cache_full"))
    house = await open_house(spec("a"), worker=WorkerLimits(probe_seconds=0.05))
    await house.ask("a")
    pid = house.router.snapshots()["a"].pid
    await asyncio.sleep(0.4)
    assert (house.router.snapshots()["a"].pid, house.router.snapshots()["a"].restarts) == (pid, 0)


class Tight(RoomEnough):
    """Room for models whose id is in `placed`, at the cost of `evict`."""

    def __init__(self, *placed: str, evict: tuple[str, ...] = ()) -> None:
        self._placed = placed
        self._evict = evict

    def find(self, spec: ModelSpec, residents: Sequence[Resident], leaving: Sequence[Resident]) -> Room | NoRoom:
        if spec.id not in self._placed:
            return NoRoom(reason="too large")
        placement = Placement(
            n_gpu_layers=0,
            layers=1,
            tensor_split=(),
            footprint=Footprint(30, (7, 5)),
            evict=self._evict,
            tokens_per_second=1.0,
        )
        return Room(spec=spec, evict=self._evict, placement=placement)


async def test_what_loading_would_take(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"), spec("b"), finder=Tight("a"))
    assert await house.router.registry.outlook("a") == Outlook(need_bytes=42, fits=True)
    assert await house.router.registry.outlook("b") == Outlook(need_bytes=None, fits=False)
    assert await house.router.registry.outlook("c") is None


async def test_room_that_others_must_make_is_none_now(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"), finder=Tight("a", evict=("b",)))
    assert await house.router.registry.outlook("a") == Outlook(need_bytes=42, fits=False)


async def test_of_what_is_loaded_or_not_known_nothing_is_said(open_house: OpenHouse) -> None:
    house = await open_house(spec("a"))
    assert await house.router.registry.outlook("a") is None, "nothing is known of memory"
    await house.ask("a")
    assert await house.router.registry.outlook("a") is None
