"""What a client sees when the server behind the model fails, and what that server sees when the client does."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import time
from typing import Any

import pytest

from appliance.api.forward import COLONS_MAX
from appliance.config import RequestLimits
from appliance.upstream_spec import UpstreamReplica
from tests.api.conftest import Api, sse
from tests.upstream.conftest import Serve
from tests.waiting import until


async def refusal(api: Api, script: str, **fields: Any) -> tuple[int, dict[str, Any], str | None]:
    async with await api.chat(script, **fields) as answer:
        return answer.status, (await answer.json())["error"], answer.headers.get("Retry-After")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_the_request_is_told_in_the_server_s_words(serve: Serve, stream: bool) -> None:
    api, _ = await serve()
    status, error, _ = await refusal(api, "status:400", stream=stream)
    assert (status, error["code"], error["param"]) == (400, "invalid_request", "max_tokens")
    assert error["message"] == "max_tokens is too large"
    status, error, _ = await refusal(api, "status:422", stream=stream)
    assert (status, error["message"]) == (400, "no such field")
    assert api.records[0].outcome == "refused"


@pytest.mark.parametrize(
    ("script", "status", "code", "retry"),
    [
        ("status:500", 503, "model_unavailable", "5"),
        ("status:429", 503, "queue_full", "7"),
        ("status:503", 503, "queue_full", "7"),
        ("status:401", 503, "model_unavailable", "5"),
        ("status:404", 503, "model_unavailable", "5"),
        ("status:302", 503, "model_unavailable", "5"),
        ("status:502", 503, "model_unavailable", "5"),
    ],
)
async def test_a_fault_of_the_server_is_ours(serve: Serve, script: str, status: int, code: str, retry: str) -> None:
    api, (server,) = await serve()
    got, error, after = await refusal(api, script, stream=True)
    assert (got, error["code"], after) == (status, code, retry)
    assert server.url not in error["message"]


@pytest.mark.parametrize("script", ["garbage", "error", pytest.param("huge", marks=pytest.mark.slow)])
async def test_a_whole_answer_that_is_none(serve: Serve, script: str) -> None:
    api, _ = await serve()
    status, error, _ = await refusal(api, script)
    assert (status, error["code"]) == (503, "engine_crash" if script == "error" else "model_unavailable")


async def test_an_error_in_the_stream_keeps_its_words(serve: Serve) -> None:
    api, _ = await serve()
    text = await (await api.chat("say:a error", stream=True)).text()
    blocks: Any = sse(text)
    assert blocks[-1]["error"]["message"] == "CUDA is out of memory"
    assert blocks[-1]["error"]["code"] == "engine_crash"
    assert (api.records[0].outcome, api.records[0].status) == ("failed", 200)


@pytest.mark.parametrize("fault", ["cut", "garbage", "other", "choice", "huge"])
async def test_a_stream_that_breaks_ends_with_an_error(serve: Serve, fault: str) -> None:
    api, (server,) = await serve()
    text = await (await api.chat(f"say:a {fault} say:b", stream=True)).text()
    blocks: Any = sse(text)
    assert "[DONE]" not in blocks
    assert blocks[-1]["error"]["code"] == "engine_crash"
    assert server.url not in text
    assert api.records[0].completion_tokens == 1
    # It has begun, so nobody else was asked.
    assert len(server.requests) == 1
    await until(lambda: server.busy == 0)


async def test_done_without_an_end_is_an_end(serve: Serve) -> None:
    api, _ = await serve()
    blocks: Any = sse(await (await api.chat("say:a done", stream=True)).text())
    assert blocks[-1] == "[DONE]"
    assert api.records[0].outcome == "ok"


async def test_a_stream_that_falls_silent(serve: Serve) -> None:
    api, (server,) = await serve(spec={"idle_seconds": 0.2})
    blocks: Any = sse(await (await api.chat("say:a hang", stream=True)).text())
    assert blocks[-1]["error"]["code"] == "engine_crash"
    await until(lambda: server.gone == 1)


async def test_before_it_begins_a_stream_may_wait(serve: Serve) -> None:
    """A server with a queue says nothing until it is this one's turn."""
    api, _ = await serve(spec={"idle_seconds": 0.1})
    text = await (await api.chat("sleep:0.4 say:a")).text()
    assert '"a"' in text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_connection_there(serve: Serve, stream: bool) -> None:
    api, (server,) = await serve()
    answering = asyncio.gather(api.chat("say:a sleep:30", stream=stream))
    if stream:
        (answer,) = await answering
        await answer.content.readany()
        answer.close()
    else:
        await until(lambda: server.busy)
        answering.cancel()
    await until(lambda: server.gone == 1)
    await until(lambda: api.records)
    assert api.records[0].outcome == "client_gone"
    assert api.router.snapshots()["demo"].outstanding == 0


async def test_a_deadline_without_text(serve: Serve) -> None:
    api, (server,) = await serve()
    status, error, _ = await refusal(api, "sleep:30", deadline_seconds=0.2)
    assert (status, error["code"]) == (504, "deadline_exceeded")
    await until(lambda: server.gone == 1)


async def test_a_deadline_with_text(serve: Serve) -> None:
    api, (server,) = await serve()
    answer = await api.chat("say:a hang", stream=True, deadline_seconds=1.5)
    blocks: Any = sse(await answer.text())
    assert blocks[-1] == "[DONE]"
    assert blocks[-2]["choices"][0]["finish_reason"] == "length"
    assert blocks[-2]["from"] == "s0"
    assert api.records[0].finish_reason == "length"
    await until(lambda: server.gone == 1)


async def test_nobody_listens(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        replica = UpstreamReplica(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        api, _ = await serve(0, spec={"replicas": (replica,)})
        status, error, after = await refusal(api, "say:a", stream=True)
    assert (status, error["code"]) == (503, "model_unavailable")
    assert after is not None
    assert "127.0.0.1" not in error["message"]
    (trouble,) = api.router.troubles()
    assert "cannot be reached: " in trouble


async def test_a_connection_that_is_never_answered(serve: Serve) -> None:
    """A listener whose backlog is full, as behind a firewall that drops."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        began = time.monotonic()
        api, _ = await serve(0, spec={"replicas": (UpstreamReplica(base_url=url),), "connect_seconds": 0.3})
        status, error, _ = await refusal(api, "say:a")
    assert (status, error["code"]) == (503, "model_unavailable")
    assert time.monotonic() - began < 30


async def test_bounds_are_ours(serve: Serve) -> None:
    api, _ = await serve(limits=RequestLimits(outstanding_per_principal_max=2, queue_depth_max=3))
    first = await api.chat("say:a sleep:30", stream=True)
    second = await api.chat("say:a sleep:30", stream=True)
    status, error, _ = await refusal(api, "say:a")
    assert (status, error["code"]) == (429, "too_many_requests")
    status, error, _ = await refusal(api, "say:a", n=100)
    assert (status, error["param"]) == (400, "n")
    first.close()
    second.close()


async def test_a_body_of_nothing_but_fields(serve: Serve) -> None:
    api, (server,) = await serve()
    body = b'{"model": "demo"%b}' % (b', "x": 0' * COLONS_MAX)
    async with api.session.post("/v1/chat/completions", data=io.BytesIO(body)) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_request")
    assert not server.requests


async def test_it_drains(serve: Serve) -> None:
    api, _ = await serve()
    answer = await api.chat("say:a sleep:0.2 say:b", stream=True)
    await answer.content.readany()
    closing = asyncio.gather(api.router.close(5))
    await asyncio.sleep(0.05)
    status, error, _ = await refusal(api, "say:x")
    assert (status, error["code"]) == (503, "shutting_down")
    assert sse(await answer.text())[-1] == "[DONE]"
    await closing


async def test_what_is_not_done_in_time_is_cut(serve: Serve) -> None:
    api, (server,) = await serve()
    answer = await api.chat("say:a sleep:30", stream=True)
    await answer.content.readany()
    await api.router.close(0.1)
    assert '"shutting_down"' in await answer.text()
    await until(lambda: server.gone == 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nxx\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_what_answers_is_no_such_server(serve: Serve, said: bytes, stream: bool) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" if head.startswith(b"GET") else said)
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        api, _ = await serve(0, spec={"replicas": (UpstreamReplica(base_url=url),), "health_path": "/"})
        status, error, after = await refusal(api, "say:a", stream=stream)
        assert (status, error["code"]) == (503, "model_unavailable")
        assert after is not None
        assert api.records[0].attempts in (1, 2)
