"""A restart of the service as clients with kept connections see it: the socket stays, and no request fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.e2e.activation import listening_socket, serving, stopped
from tests.e2e.load import Ask, Load, Target
from tests.fakes.gate import Gate
from tests.security.daemons import scripted_appliance, text_of
from tests.waiting import until

pytestmark = pytest.mark.slow


async def test_no_request_over_a_kept_connection_fails(tmp_path: Path) -> None:
    load = Load()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listening_socket())
        first = stack.enter_context(serving(tmp_path / "run", listening))
        target = Target.of(first, load)

        @contextlib.asynccontextmanager
        async def official() -> AsyncIterator[Ask]:
            async def ask() -> None:
                answer = await client.completions.create(model="m", prompt="say:x")
                assert answer.choices[0].text == "x"

            # Its own patience with a connection is 5 s, which a busy machine's restart may take.
            http = openai.DefaultAsyncHttpxClient(verify=target.context, timeout=60)
            async with openai.AsyncOpenAI(
                base_url=f"{target.url}/v1", api_key=target.key, max_retries=0, timeout=60, http_client=http
            ) as client:
                yield ask

        async with (
            # Used once before the restart, and once after it.
            Target.of(first, Load()).post() as seldom,
            load.asking({"aiohttp": target.post, "openai": official, "streams": target.stream}),
        ):
            await seldom()
            await stopped(first)
            load.when = "after"
            await asyncio.to_thread(stack.enter_context, serving(tmp_path / "run", listening))
            await seldom()
    assert load.failed == []
    for kind in ("aiohttp", "openai"):
        assert load.answered[kind, "before"] > 10
        assert load.answered[kind, "after"] > 10
    assert load.answered["streams", "after"] > 3
    # Most of them over a connection that was there.
    assert load.connections < (load.answered["aiohttp", "before"] + load.answered["aiohttp", "after"]) / 2


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_at_a_socket_of_its_own_who_comes_anew_is_refused_at_once(tmp_path: Path, gate: Gate) -> None:
    """And not left waiting where nobody will ever accept."""
    body = {"model": "m", "prompt": f"say:x {gate.word}", "stream": True}
    with scripted_appliance(tmp_path / "run") as appliance:
        address = ("127.0.0.1", int(appliance.url.rpartition(":")[2]))
        async with (
            appliance.session() as session,
            session.post("/v1/completions", json=body) as running,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(stopped(appliance))
            await asyncio.to_thread(appliance.wait_for, "stopping")
            await until(lambda: is_refused(address))
            gate.open()
            assert text_of(await running.text()) == "x"
