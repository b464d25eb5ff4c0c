"""What goes to another server and what comes back from it, when all is well."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import msgspec
import pytest

from appliance.config import RequestLimits
from appliance.models.snapshot import InstanceState
from appliance.telemetry.request_record import AnswerEvidence
from appliance.telemetry.tracing import Tracing
from tests.api.conftest import heard, sse
from tests.upstream.conftest import Serve, state
from tests.upstream.other_server import FLOOD_CHARS
from tests.waiting import until


def texts(blocks: list[Any]) -> str:
    return "".join(c["delta"].get("content", "") for b in blocks if b != "[DONE]" for c in b["choices"])


async def test_a_stream_comes_back_with_our_name_and_its_usage(serve: Serve) -> None:
    api, _ = await serve()
    answer = await api.chat("say:a say:b", stream=True)
    blocks: Any = sse(await answer.text())
    assert blocks[-1] == "[DONE]"
    assert texts(blocks) == "ab"
    assert {block["model"] for block in blocks[:-1]} == {"demo"}
    # What we do not know passes.
    assert {block["from"] for block in blocks[:-1]} == {"s0"}
    assert all(block["choices"] for block in blocks[:-1])
    last = blocks[-2]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["completion_tokens"] == 2
    assert all("usage" not in block for block in blocks[:-2])
    (record,) = api.records
    assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (11, 2, 4)
    assert (record.outcome, record.finish_reason, record.model, record.attempts) == ("ok", "stop", "demo", 1)
    assert record.ttft_seconds is not None
    assert record.queue_seconds is None


async def test_the_usage_chunk_comes_where_it_was_asked_for(serve: Serve) -> None:
    api, _ = await serve()
    answer = await api.chat("say:a", stream=True, stream_options={"include_usage": True})
    blocks: Any = sse(await answer.text())
    assert blocks[-2]["choices"] == []
    assert blocks[-2]["usage"] == blocks[-3]["usage"]
    assert blocks[-3]["choices"][0]["finish_reason"] == "stop"


async def test_a_trace_goes_on_to_the_server(serve: Serve) -> None:
    api, (server,) = await serve(tracing=Tracing(None, resource={}))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await api.session.post(
        "/v1/chat/completions",
        json={"model": "demo", "messages": [{"role": "user", "content": "say:a"}]},
        headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
    )
    await answer.read()
    await (await api.chat("say:a")).read()
    ours = answer.headers["traceparent"]
    assert ours.startswith(f"00-{trace}-") and "00f067aa0ba902b7" not in ours
    with_trace, without = (headers for headers, _ in server.requests[-2:])
    assert with_trace["traceparent"] == ours and "traceparent" not in without


async def test_a_whole_answer(serve: Serve) -> None:
    api, _ = await serve()
    answer = await api.chat("say:a say:b")
    body = await answer.json()
    assert body["choices"][0]["message"]["content"] == "ab"
    assert (body["model"], body["from"]) == ("demo", "s0")
    assert api.records[0].completion_tokens == 5
    assert answer.headers["X-Request-Id"] == api.records[0].id


@pytest.mark.parametrize("stream", [False, True])
async def test_without_a_usage_we_count(serve: Serve, stream: bool) -> None:
    api, _ = await serve()
    answer = await api.chat("say:abcdefgh say:b nousage", stream=stream)
    await answer.read()
    assert api.records[0].completion_tokens == (2 if stream else 3)
    assert api.records[0].prompt_tokens == 1 + len("say:abcdefgh say:b nousage") // 4


async def test_what_goes_there(serve: Serve) -> None:
    api, (server,) = await serve()
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"a": 12345678901234567890}}}]
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "x"}]
    async with api.session.post(
        "/v1/chat/completions",
        json={
            "model": "gpt-x",
            "messages": [{"role": "user", "content": image}, {"role": "user", "content": "say:a"}],
            "tools": tools,
            "response_format": {"type": "json_schema"},
            "temperature": 0.125,
            "priority": 3,
            "deadline_seconds": 60,
            "stream": True,
            "stream_options": {"chunk": 1},
            "cache_salt": "mine",
        },
        headers={"X-Request-Id": "req-7"},
    ) as answer:
        assert answer.status == 200
        await answer.read()
    headers, body = server.requests[0]
    assert body["model"] == "theirs"
    assert body["tools"] == tools
    assert body["messages"][0]["content"] == image
    assert body["response_format"] == {"type": "json_schema"}
    assert body["temperature"] == 0.125
    assert body["stream_options"] == {"chunk": 1, "include_usage": True}
    assert not {"priority", "deadline_seconds"} & set(body)
    assert headers["X-Request-Id"] == "req-7"
    assert "Authorization" not in headers
    assert api.records[0].finish_reason == "tool_calls"


async def test_prompts_are_shared_only_inside_a_cache_domain(serve: Serve) -> None:
    api, (server,) = await serve()
    for headers, fields in (({}, {}), ({}, {}), ({"Authorization": "Bearer other"}, {}), ({}, {"cache_salt": "x"})):
        body = {"model": "demo", "messages": [{"role": "user", "content": "say:a"}], **fields}
        async with api.session.post("/v1/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 200
    first, second, other, salted = [body["cache_salt"] for _, body in server.requests]
    assert first == second
    assert len({first, other, salted}) == 3
    assert len(first) == 43


async def test_no_salt_where_the_entry_says_so(serve: Serve) -> None:
    api, (server,) = await serve(spec={"cache_salt": False})
    await (await api.completion("say:a")).read()
    assert "cache_salt" not in server.requests[0][1]


async def test_chunks_arrive_one_by_one(serve: Serve) -> None:
    api, (server,) = await serve()
    answer = await api.chat("say:a wait say:b wait say:c", stream=True)
    for letter in (b"a", b"b", b"c"):
        await heard(answer, b'"content": "%s"' % letter)
        server.go.release()
    await answer.read()


async def test_a_waiting_client_is_pinged(serve: Serve) -> None:
    limits = RequestLimits(commit_stream_seconds=0.05, commit_blocking_seconds=0.05, ping_seconds=0.05)
    api, (server,) = await serve(limits=limits)
    answer = await api.chat("wait say:a", stream=True)
    begun = await heard(answer, b": ping\n\n")
    server.go.release()
    assert texts(sse(begun.decode() + await answer.text())) == "a"
    answer = await api.chat("wait say:a")
    assert not (await heard(answer, b" ", 2)).strip()
    server.go.release()
    assert b'"a"' in await answer.read()


async def test_other_line_ends_comments_and_fields(serve: Serve) -> None:
    api, _ = await serve()
    text = await (await api.chat("lines say:a say:b", stream=True)).text()
    assert texts(sse(text)) == "ab"


async def test_a_completion(serve: Serve) -> None:
    api, (server,) = await serve()
    blocks: Any = sse(await (await api.completion("say:a say:b", stream=True, echo=True, suffix="x")).text())
    assert "".join(c["text"] for b in blocks[:-1] for c in b["choices"]) == "ab"
    assert server.requests[0][1]["echo"] is True


async def test_connections_are_used_again(serve: Serve) -> None:
    # A probe at the same time as a request has a connection of its own.
    api, (server,) = await serve(spec={"probe_seconds": 60})
    for stream in (True, False, True, True, False):
        await (await api.chat("say:a", stream=stream)).read()
        await asyncio.sleep(0.05)
    assert len(server.connections) == 1


async def test_many_at_once(serve: Serve) -> None:
    api, (server,) = await serve()

    async def one(number: int) -> str:
        answer = await api.chat(f"say:{number} sleep:0.05 say:!", stream=True)
        return texts(sse(await answer.text()))

    for _ in range(2):
        assert await asyncio.gather(*(one(number) for number in range(60))) == [f"{number}!" for number in range(60)]
    assert len(server.connections) <= 61


async def test_its_state_is_shown(serve: Serve) -> None:
    api, (server,) = await serve()
    async with api.session.get("/v1/models/gpt-x") as answer:
        model = await answer.json()
    assert (model["id"], model["meta"]["state"], model["meta"]["n_ctx"]) == ("demo", "ready", 4321)
    async with api.session.get("/readyz") as answer:
        assert answer.status == 200
    server.healthy = False
    await until(lambda: state(api) is InstanceState.FAILED)
    assert api.router.troubles() == [f"model demo: {server.url}: answers 503 at /models"]
    async with api.session.get("/readyz") as answer:
        assert answer.status == 503


async def test_a_large_body_goes_through(serve: Serve) -> None:
    api, (server,) = await serve()
    padding = [{"role": "user", "content": "x" * 5 * 2**20}]
    body = {"model": "demo", "messages": [*padding, {"role": "user", "content": "say:a"}]}
    async with api.session.post("/v1/chat/completions", data=io.BytesIO(msgspec.json.encode(body))) as answer:
        assert answer.status == 200
    assert len(server.requests[0][1]["messages"][0]["content"]) == 5 * 2**20


async def test_a_slow_reader_holds_the_server_back(serve: Serve) -> None:
    """Not our memory: what waits here is bounded."""
    api, (server,) = await serve()
    answer = await api.chat("flood:1500", stream=True)
    length = (await answer.content.readany()).count(b"xx")
    await asyncio.sleep(0.3)
    assert server.busy == 1
    async for data in answer.content.iter_any():
        length += data.count(b"xx")
    assert length > 1500 * FLOOD_CHARS / 2 * 0.99
    assert server.busy == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_who_answered_is_in_the_evidence(serve: Serve, stream: bool) -> None:
    api, (server,) = await serve()
    server.fingerprint = "fp_theirs"
    answer = await api.chat("say:a", stream=stream, seed=7, temperature=0.5, top_k=None, stop="x", max_tokens=9)
    text = await answer.text()
    said: Any = sse(text)[:-1] if stream else [await answer.json()]
    assert {one["system_fingerprint"] for one in said} == {"fp_theirs"}
    (record,) = api.records
    assert record.system_fingerprint == "fp_theirs"
    assert record.evidence == AnswerEvidence(
        seed=7,
        sampling={"temperature": 0.5},
        max_tokens=9,
        withheld={"stop": 1},
        base_url=server.url,
        served_as="theirs",
    )


@pytest.mark.parametrize(
    ("said", "kept"), [(None, None), (["x"], None), ("x" * 1000, "x" * 127 + "\u2026"), ("\x1b[2J", "\\x1b[2J")]
)
async def test_a_fingerprint_of_another_form_is_no_trouble(serve: Serve, said: object, kept: str | None) -> None:
    api, (server,) = await serve()
    server.fingerprint = said
    blocks: Any = sse(await (await api.chat("say:a say:b", stream=True)).text())
    assert {str(block.get("system_fingerprint")) for block in blocks[:-1]} == {str(said)}
    assert api.records[0].system_fingerprint == kept


async def test_the_server_that_answered_is_named_not_those_that_were_tried(serve: Serve) -> None:
    api, servers = await serve(2)
    servers[0].healthy = False
    await servers[0].stop()
    await (await api.chat("say:a")).json()
    evidence = api.records[0].evidence
    assert evidence is not None and evidence.base_url == servers[1].url
