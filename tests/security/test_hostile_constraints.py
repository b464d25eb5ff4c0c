"""Grammars, schemas and patterns made to exhaust or crash, in every field that takes one: the real daemon over TLS.

Each is a 400 within seconds and without memory to speak of, in the same worker as before. What crashes a worker is a
503 for its request alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.e2e.appliance_process import Appliance, running_appliance
from tests.security.daemons import until
from tests.security.hostile_requests import HOSTILE, PLACES, Kind

pytestmark = pytest.mark.slow

# On two busy cores; alone the slowest takes 0.7 s.
REFUSAL_SECONDS_MAX = 30.0
# Of a refusal, by the process that it is in.
GROWN_MIB_MAX = 64
PLAIN = {"model": "random", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 4}
# Takes the compiler a second.
SLOW_SCHEMA = {"anyOf": [{"properties": {f"p{n}": {}}, "required": [f"p{n}"]} for n in range(2000)]}


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory, random_gguf: Path) -> Iterator[Appliance]:
    folder = tmp_path_factory.mktemp("constraints")
    (folder / "models.yaml").write_text(f"models:\n  - {{id: random, path: {random_gguf}, preload: true}}\n")
    with running_appliance(folder / "run", "--models", folder / "models.yaml") as appliance:
        yield appliance


async def ask(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with session.post(path, json=body) as answer:
        return answer.status, await answer.json()


def worker_of(appliance: Appliance) -> psutil.Process:
    (worker,) = appliance.workers()
    return worker


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, places in PLACES.items() for place in places])
async def test_what_is_made_to_exhaust_is_refused(appliance: Appliance, kind: Kind, place: str) -> None:
    processes = psutil.Process(appliance.process.pid), worker_of(appliance)
    async with appliance.session() as session:
        assert (await ask(session, "/v1/chat/completions", PLAIN | {"regex": "a"}))[0] == 200
        for name, hostile in HOSTILE[kind].items():
            before = [process.memory_info().rss for process in processes]
            began = time.monotonic()
            status, body = await ask(session, *PLACES[kind][place](hostile))
            seconds = time.monotonic() - began
            grown = [(process.memory_info().rss - rss) >> 20 for process, rss in zip(processes, before, strict=True)]
            assert status == 400, (name, body)
            assert body["error"]["type"] == "invalid_request_error", (name, body)
            assert len(body["error"]["message"]) < 1000, name
            assert seconds < REFUSAL_SECONDS_MAX, name
            assert max(grown) < GROWN_MIB_MAX, name
        assert (await ask(session, "/v1/chat/completions", PLAIN))[0] == 200
    assert worker_of(appliance).pid == processes[1].pid


async def test_a_stream_beside_them_goes_on(appliance: Appliance) -> None:
    """They are compiled in a thread that does not hold the interpreter."""
    free = {"model": "random", "prompt": "abc", "max_tokens": 60, "stream": True, "ignore_eos": True}
    slowest = 0.0

    async def keep_reading(session: aiohttp.ClientSession) -> None:
        nonlocal slowest
        async with session.post("/v1/completions", json=free) as answer:
            before = time.monotonic()
            async for _ in answer.content:
                slowest, before = max(slowest, time.monotonic() - before), time.monotonic()

    async with appliance.session() as session, asyncio.TaskGroup() as group:
        reading = group.create_task(keep_reading(session))
        names = [("grammar", "grammar", "doubling terminals"), ("regex", "regex", "nested repetitions, spaced")]
        while not reading.done():
            for kind, place, name in names:
                await ask(session, *PLACES[kind][place](HOSTILE[kind][name]))  # type: ignore[index]
    assert slowest < 30.0


async def state(session: aiohttp.ClientSession) -> str:
    """Of the model. The daemon answers at once, whatever becomes of the worker."""
    async with asyncio.timeout(60), session.get("/v1/models") as answer:
        return str((await answer.json())["data"][0]["meta"]["state"])


async def kill_until_done(appliance: Appliance, session: aiohttp.ClientSession, request: asyncio.Task[Any]) -> int:
    """Has every worker crash that the request comes to; how many did."""
    killed: set[int] = set()
    while not request.done():
        with contextlib.suppress(psutil.NoSuchProcess):
            found = [worker for worker in appliance.workers() if worker.pid not in killed]
            # One that has just come is not the one that was ready before.
            if len(found) == 1 and await state(session) == "ready":
                killed.add(found[0].pid)
                found[0].send_signal(signal.SIGSEGV)
        await asyncio.sleep(0.05)
    return len(killed)


async def test_a_constraint_that_crashes_the_worker_fails_alone(appliance: Appliance) -> None:
    async with appliance.session() as session:
        hostile = PLAIN | {"json_schema": SLOW_SCHEMA | {"description": str(time.monotonic())}, "max_tokens": 8000}
        request = asyncio.get_running_loop().create_task(ask(session, "/v1/chat/completions", hostile))
        crashes = await kill_until_done(appliance, session, request)
        status, body = await request
        assert (status, body["error"]["code"]) == (503, "engine_crash"), body
        assert 1 <= crashes <= 3

        async def serves() -> bool:
            return (await ask(session, "/v1/chat/completions", PLAIN))[0] == 200

        await until(serves)
