"""A loaded model outlives the process that had it loaded: real workers, reached as under systemd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.alias_spec import ModelsFile
from appliance.config import RequestLimits
from appliance.models.frames import add_frame
from appliance.models.instance import ModelInstance
from appliance.models.kept import KeptWorkers
from appliance.models.launcher import SocketLauncher
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.models.snapshot import InstanceState
from appliance.models.stream import AnswerEnd, AnswerSource, Text
from appliance.systemd import ServiceManager
from appliance.types import ModelSpec, Request, SamplingParams, TextPrompt
from appliance.wire import Delta, Loaded, Resume, Step
from tests.engine.conftest import recite_spec
from tests.fakes.service_manager import FakeManager
from tests.models.recite import recited
from tests.models.vocabulary import word

RELEASE = "1"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeManager]:
    with FakeManager(tmp_path) as manager:
        yield manager


class Process:
    """One process of the service, so far as its models go."""

    def __init__(self, router: Router, kept: KeptWorkers) -> None:
        self.router = router
        self.kept = kept

    @property
    def instance(self) -> ModelInstance:
        found = self.router.registry.instance("recite")
        assert found is not None
        return found

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            await self.instance.settled.wait()
        assert self.instance.state is InstanceState.READY, self.instance.snapshot().reason


@contextlib.asynccontextmanager
async def process(systemd: FakeManager, spec: ModelSpec, release: str = RELEASE) -> AsyncIterator[Process]:
    """Ends as a restart ends it: what is kept stays."""
    manager = ServiceManager(str(systemd.notify))
    kept = KeptWorkers(manager, systemd.kept(), release)
    router = Router(ModelsFile(models=(spec,)), RequestLimits(), Means(SocketLauncher(systemd.engine), kept=kept))
    router.start()
    try:
        yield Process(router, kept)
    finally:
        kept.part()
        await router.close(0)
        manager.close()


def request(prompt: str, max_tokens: int) -> Request:
    return Request(
        id="r",
        model="recite",
        principal="p",
        prompt=TextPrompt(text=prompt),
        cache_domain="p",
        max_tokens=max_tokens,
        sampling=SamplingParams(temperature=0),
    )


async def answer(source: AnswerSource) -> str:
    text = ""
    while not isinstance(event := await source.next(), AnswerEnd):
        if isinstance(event, Text):
            text += event.text
    return text


async def ask(one: Process, start: int, tokens: int) -> str:
    with one.router.submit(request(word(start), tokens)) as source:
        return await answer(source)


async def test_a_model_is_gone_on_with(systemd: FakeManager, recite_gguf: Path) -> None:
    spec = recite_spec(recite_gguf, preload=True)
    async with process(systemd, spec) as first:
        await first.ready()
        assert await ask(first, 1, 5) == recited(1, 5)
    # One that dies in the middle of an answer.
    (line,) = systemd.kept()
    link = KeptWorkers(ServiceManager(None), [line]).take(line.name)
    assert link is not None
    link.send(Resume())
    loaded = await link.receive()
    assert isinstance(loaded[0], Loaded) and loaded[0].spec == spec
    link.send(add_frame(1, request(word(1), 4000), 60.0))
    while not any(isinstance(step, Step) and any(isinstance(e, Delta) for e in step.events) for step in loaded):
        loaded = await link.receive()
    await link.leave()
    # What counts without a new worker may have changed, and is as it is now.
    async with process(systemd, recite_spec(recite_gguf, pinned=True)) as third:
        await third.ready()
        # By the same number as the request that was cut.
        assert await ask(third, 7, 6) == recited(7, 6)
        assert third.instance.pinned
        assert third.instance.snapshot().pid == systemd.workers[0].pid
    assert len(systemd.workers) == 1
    assert systemd.workers[0].poll() is None


@pytest.mark.parametrize("what", ["settings", "release", "removed"])
async def test_a_worker_that_is_not_what_would_be_loaded_is_ended(
    systemd: FakeManager, recite_gguf: Path, what: str
) -> None:
    async with process(systemd, recite_spec(recite_gguf, preload=True)) as first:
        await first.ready()
    every: dict[str, dict[str, object]] = {"settings": {"n_ctx": 1024}, "release": {}, "removed": {"id": "another"}}
    async with process(systemd, recite_spec(recite_gguf, **every[what]), "2" if what == "release" else RELEASE):
        assert await asyncio.to_thread(systemd.workers[0].wait, 60) == 0
    assert len(systemd.workers) == 1


@pytest.mark.slow
async def test_a_model_that_is_unloaded_does_not_stay(systemd: FakeManager, recite_gguf: Path) -> None:
    async with process(systemd, recite_spec(recite_gguf, preload=True)) as first:
        await first.ready()
        await asyncio.shield(first.instance.unload(5))
        assert await asyncio.to_thread(systemd.workers[0].wait, 60) == 0
        assert await ask(first, 1, 5) == recited(1, 5)
    assert len(systemd.workers) == 2


@pytest.mark.slow
async def test_a_worker_that_died_meanwhile_is_replaced(systemd: FakeManager, recite_gguf: Path) -> None:
    spec = recite_spec(recite_gguf, preload=True)
    async with process(systemd, spec) as first:
        await first.ready()
    systemd.workers[0].kill()
    async with process(systemd, spec) as second:
        await second.ready()
        assert await ask(second, 1, 5) == recited(1, 5)
    assert len(systemd.workers) == 2
