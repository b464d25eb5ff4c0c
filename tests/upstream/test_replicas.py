"""Several servers behind one model: who is asked, and what happens when one dies and comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from appliance.models.snapshot import InstanceState
from appliance.upstream_spec import UpstreamReplica
from tests.api.conftest import Api, sse
from tests.upstream.conftest import Serve, state
from tests.upstream.other_server import other_server
from tests.waiting import until


@dataclass
class Call:
    """One stream as its client saw it."""

    status: int = 0
    blocks: list[Any] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return self.status == 200 and self.blocks[-1] == "[DONE]"

    @property
    def by(self) -> str:
        return str(self.blocks[0]["from"])


async def ask(api: Api, script: str = "say:a") -> Call:
    async with await api.chat(script, stream=True) as answer:
        text = await answer.text()
        return Call(answer.status, sse(text) if answer.status == 200 else [])


async def test_the_least_busy_one_is_asked(serve: Serve) -> None:
    api, servers = await serve(3)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(api, "say:a wait")) for _ in range(9)]
        await until(lambda: sum(server.busy for server in servers) == 9)
        for server in servers:
            for _ in range(server.busy):
                server.go.release()
    assert Counter(call.result().by for call in asking) == {"s0": 3, "s1": 3, "s2": 3}


async def test_one_dies_under_load_and_comes_back(serve: Serve) -> None:
    """What had begun there ends with an error; whatever had not is answered by the other one."""
    api, (_, second) = await serve(2)
    calls: list[Call] = []
    stop = False

    async def client() -> None:
        while not stop:
            calls.append(await ask(api, "say:a sleep:0.02 say:b"))

    async def blocking() -> None:
        """These have not begun until they are over."""
        while not stop:
            async with await api.chat("sleep:0.03 say:a") as answer:
                assert answer.status == 200
                assert (await answer.json())["choices"][0]["message"]["content"] == "a"

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(client())
            group.create_task(blocking())
        await until(lambda: any(call.whole and call.by == "s1" for call in calls))
        await second.stop()
        await until(lambda: api.router.troubles())
        assert [trouble.partition(": cannot")[0] for trouble in api.router.troubles()] == [f"model demo: {second.url}"]
        before = len(second.requests)
        await second.start()
        await until(lambda: len(second.requests) > before)
        await until(lambda: len([call for call in calls if call.whole]) > 16)
        stop = True
    # Each of the clients had one stream at most that was cut in its middle.
    assert all(call.status == 200 for call in calls)
    cut = [call for call in calls if not call.whole]
    assert len(cut) <= 8
    assert all(call.blocks[-1]["error"]["code"] == "engine_crash" and call.by == "s1" for call in cut)


async def test_a_lost_request_is_tried_once_more(serve: Serve) -> None:
    """It may be what kills them: not all of them get it."""
    api, servers = await serve(3)
    async with await api.chat("cut") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "model_unavailable")
    assert sum(len(server.requests) for server in servers) == 2
    assert api.records[0].attempts == 2


async def test_an_idle_connection_that_ends_as_it_is_taken(serve: Serve) -> None:
    """There is no other server: the same one is asked again."""
    api, (server,) = await serve()
    async with await api.chat("cut") as answer:
        assert answer.status == 503
    assert len(server.requests) == 2


@pytest.mark.parametrize("script", ["status:429", "status:503", "status:502", "status:401", "status:404"])
async def test_who_refuses_for_reasons_of_its_own_is_passed_over(serve: Serve, script: str) -> None:
    # It is out until it is asked again, which is not while we look.
    api, servers = await serve(2, spec={"probe_seconds": 1.5})
    async with await api.chat(script) as answer:
        assert answer.status == 503
    assert [len(server.requests) for server in servers] == [1, 1]
    # A full one stays in.
    assert bool(api.router.troubles()) is (script not in ("status:429", "status:503"))
    await until(lambda: not api.router.troubles())


@pytest.mark.parametrize("script", ["status:400", "status:500"])
async def test_others_would_say_the_same(serve: Serve, script: str) -> None:
    api, servers = await serve(2)
    await (await api.chat(script)).read()
    assert sum(len(server.requests) for server in servers) == 1


async def test_all_of_them_are_down_and_one_comes_back(serve: Serve) -> None:
    api, servers = await serve(2)
    for server in servers:
        await server.stop()
    await until(lambda: state(api) is InstanceState.FAILED)
    assert (await ask(api)).status == 503
    await servers[0].start()
    await until(lambda: state(api) is InstanceState.READY)
    assert (await ask(api)).by == "s0"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": "secret"}, "refuses our key or certificate (401)"),
        ({"served": "another"}, "does not serve 'theirs'; it serves: 'another'"),
        ({"healthy": False}, "answers 503 at /models"),
    ],
)
async def test_what_a_probe_finds(serve: Serve, change: dict[str, Any], says: str) -> None:
    api, (server,) = await serve()
    for name, value in change.items():
        setattr(server, name, value)
    await until(lambda: says in "".join(api.router.troubles()))
    assert (await ask(api)).status == 503


async def test_another_health_path(serve: Serve) -> None:
    async with other_server(name="x", served="something else") as server:
        api, _ = await serve(0, spec={"replicas": (UpstreamReplica(base_url=server.url),), "health_path": "/health"})
        assert (await ask(api)).by == "x"
        # Before it is known what a request may have, nothing is said of it.
        assert api.router.snapshots()["demo"].n_ctx is None


async def test_probes_are_few(serve: Serve) -> None:
    api, (server,) = await serve(spec={"probe_seconds": 60})
    await asyncio.gather(*(ask(api) for _ in range(20)))
    assert server.probes == 1
