"""Anthropic's Messages API over HTTP: the official client judges what it reads, the wire is looked at beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import anthropic
import msgspec
import pydantic
import pytest

from appliance.access_config import PrincipalSettings
from appliance.alias_spec import AliasSpec, FallbackSpec
from appliance.config import RequestLimits
from appliance.types import ModelSpec, SamplingParams
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec
from tests.api.conftest import Api, ApiFactory, heard
from tests.fakes.gate import Gate
from tests.sessions import owning_session

TOOLS: Any = [
    {"name": "get_weather", "description": "The weather", "input_schema": {"type": "object"}},
    {"name": "now", "input_schema": {"type": "object"}},
]
CALLS = (
    "<think>\nWhich city?\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rö}"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)
FAST = RequestLimits(commit_stream_seconds=0.1, commit_blocking_seconds=0.1, ping_seconds=0.05)


def script(text: str, answer: str = "hermes,think", verb: str = "spell") -> str:
    return f"read:{answer} {verb}:{quote(text, safe='')}"


def body_of(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "max_tokens": 50, "messages": [{"role": "user", "content": prompt}], **fields}


async def whole(api: Api, prompt: str, **fields: Any) -> Any:
    return await (await api.session.post("/v1/messages", json=body_of(prompt, **fields))).json()


def events(text: str) -> list[Any]:
    """The events of a body: every one is named by its data's type."""
    assert "\r" not in text
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


async def streamed(api: Api, prompt: str, **fields: Any) -> list[Any]:
    answer = await api.session.post("/v1/messages", json=body_of(prompt, stream=True, **fields))
    assert answer.content_type == "text/event-stream"
    return events(await answer.text())


def without_ids(content: list[Any]) -> list[Any]:
    dumped = [block if isinstance(block, dict) else block.model_dump(exclude_none=True) for block in content]
    return [{**block, "id": ""} if "id" in block else block for block in dumped]


@pytest.fixture
async def client(api: Api) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=api.url, api_key="good", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_whole_answer(api: Api) -> None:
    answer = await api.session.post("/v1/messages", json=body_of("started say:Hello say:_you."))
    body = await answer.json()
    assert body.pop("id") == f"msg_{answer.headers['request-id']}"
    assert answer.headers["request-id"] == answer.headers["X-Request-Id"]
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "demo",
        "content": [{"type": "text", "text": "Hello you."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "output_tokens": 2,
        },
    }
    record = api.records[0]
    assert (record.path, record.model, record.outcome, record.finish_reason) == ("/v1/messages", "demo", "ok", "stop")


async def test_a_stream(api: Api, gate: Gate) -> None:
    prompt = f"started say:Hello {gate.word} say:_you."
    answer = await api.session.post("/v1/messages", json=body_of(prompt, stream=True))
    begun = await heard(answer, b'"Hello"')
    gate.open()
    start, *blocks, delta, stop = events(begun.decode() + await answer.text())
    assert start["message"]["content"] == []
    assert start["message"]["usage"]["input_tokens"] == 4
    assert start["message"]["stop_reason"] is None
    assert blocks == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " you."}},
        {"type": "content_block_stop", "index": 0},
    ]
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"]["output_tokens"] == 2
    assert stop == {"type": "message_stop"}


@pytest.mark.parametrize("verb", ["spell", "write"])
@pytest.mark.parametrize(
    ("text", "tools"),
    [
        (CALLS, TOOLS),
        ("Plain.", []),
        ("<think>Only thoughts</think>", []),
        ('<tool_call>{"name": "now"}</tool_call>', TOOLS),
        ('Text<tool_call>{"name": "unknown"}</tool_call>', TOOLS),
    ],
)
async def test_a_stream_and_a_whole_answer_are_the_same(
    client: anthropic.AsyncAnthropic, verb: str, text: str, tools: Any
) -> None:
    asked: Any = body_of(script(text, verb=verb), tools=tools)
    answer = await client.messages.create(**asked)
    async with client.messages.stream(**asked) as stream:
        final = await stream.get_final_message()
    assert without_ids(list(final.content)) == without_ids(list(answer.content))
    assert (final.stop_reason, final.usage, final.model) == (answer.stop_reason, answer.usage, answer.model)
    assert final.model_extra == answer.model_extra or "unknown" in text


async def test_calls_and_thoughts_are_blocks(client: anthropic.AsyncAnthropic) -> None:
    answer: Any = await client.messages.create(**body_of(script(CALLS), tools=TOOLS))
    thinking, text, first, second = answer.content
    assert (thinking.type, text.type, first.type, second.type) == ("thinking", "text", "tool_use", "tool_use")
    assert (thinking.thinking, thinking.signature) == ("Which city?", "")
    assert text.text == "Let me look."
    assert (first.name, first.input, second.name, second.input) == ("get_weather", {"city": "Rö}"}, "now", {})
    assert first.id.startswith("toolu_")
    assert first.id != second.id
    assert answer.stop_reason == "tool_use"
    assert answer.usage.output_tokens_details.thinking_tokens == len("<think>\nWhich city?\n</think>")


async def test_the_events_of_calls_and_thoughts(api: Api) -> None:
    kinds = [
        (event.get("content_block") or event.get("delta") or {}).get("type", event["type"])
        for event in await streamed(api, script(CALLS, verb="write"), tools=TOOLS)
    ]
    thinking = ["thinking", "thinking_delta", "signature_delta", "content_block_stop"]
    text = ["text", "text_delta", "content_block_stop"]
    call = ["tool_use", "input_json_delta", "content_block_stop"]
    assert kinds == ["message_start", *thinking, *text, *call, *call, "message_delta", "message_stop"]


async def test_thinking_can_be_left_out(api: Api) -> None:
    fields: Any = {"tools": TOOLS, "thinking": {"type": "adaptive", "display": "omitted"}}
    answer = await whole(api, script(CALLS), **fields)
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]
    assert not any("thinking" in str(event.get("delta")) for event in await streamed(api, script(CALLS), **fields))


async def test_a_call_that_cannot_be_made_is_text_with_a_flag(api: Api) -> None:
    text = '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'
    answer = await whole(api, script(text), tools=TOOLS)
    assert answer["content"] == [{"type": "text", "text": text}]
    assert (answer["stop_reason"], answer["appliance_unparsed_tool_call"]) == ("end_turn", True)
    assert (await streamed(api, script(text), tools=TOOLS))[-2]["delta"]["appliance_unparsed_tool_call"] is True


async def test_one_call_at_a_time(api: Api) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    answer = await whole(api, script(CALLS) + " hang", tools=TOOLS, tool_choice=choice)
    assert [block["name"] for block in answer["content"] if block["type"] == "tool_use"] == ["get_weather"]


async def test_a_call_that_must_be_made(api: Api) -> None:
    for choice, only in (({"type": "any"}, []), ({"type": "tool", "name": "now"}, ["now"])):
        answer = await whole(api, "tell", tools=TOOLS, tool_choice=choice)
        told = json.loads(answer["content"][0]["text"])["must_call"]
        assert told == {"only": only, "parallel": True, "param": "tool_choice"}


async def test_an_answer_that_is_cut_off_ends_with_max_tokens(api: Api) -> None:
    answer = await whole(api, "started say:a late")
    assert answer["stop_reason"] == "max_tokens"


async def test_the_stop_sequence_is_named(api: Api) -> None:
    answer = await whole(api, "say:a stop:END", stop_sequences=["END"])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "END")
    end = (await streamed(api, "say:a stop:END"))[-2]["delta"]
    assert end == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    called = await whole(api, script('<tool_call>{"name": "now"}</tool_call>') + " stop:END", tools=TOOLS)
    assert (called["stop_reason"], called["stop_sequence"]) == ("tool_use", None)


async def test_the_operator_s_answer(start_api: ApiFactory) -> None:
    spec = ModelSpec(id="demo", path="/nowhere.gguf", sampling=SamplingParams(temperature=0))
    alias = AliasSpec(versions={"demo": 1}, fallback=FallbackSpec(answer="Back soon."))
    api = await start_api(specs=[spec], aliases={"chat": alias})
    answer = await api.session.post("/v1/messages", json=body_of("fail:model_unavailable", model="chat"))
    assert answer.headers["X-Appliance-Fallback"] == "answer"
    assert (await answer.json())["content"] == [{"type": "text", "text": "Back soon."}]
    blocks = await streamed(api, "fail:model_unavailable", model="chat")
    assert [block["type"] for block in blocks][:2] == ["message_start", "content_block_start"]


# ── what the model gets ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_fields_of_a_request_reach_the_engine(api: Api) -> None:
    answer = await whole(
        api, "tell", stop_sequences=["END"], temperature=0.5, top_p=0.5, top_k=7, metadata={"user_id": "u"}, seed=3
    )
    told = json.loads(answer["content"][0]["text"])
    assert (told["stop"], told["max_tokens"]) == (["END"], 50)
    sampling = {name: told["sampling"][name] for name in ("temperature", "top_p", "top_k", "seed")}
    assert sampling == {"temperature": 0.5, "top_p": 0.5, "top_k": 7, "seed": 3}
    assert told["flow"].endswith(":u")
    assert told["flow"].startswith("/messages:")


async def test_a_history_with_tools_reaches_the_template(client: anthropic.AsyncAnthropic) -> None:
    ours: Any = await client.messages.create(**body_of(script(CALLS), tools=TOOLS))
    messages: Any = [
        {"role": "user", "content": "x"},
        ours.to_param(),
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": ours.content[2].id, "content": "sunny"}]},
        {"role": "user", "content": [{"type": "text", "text": "prompt", "cache_control": {"type": "ephemeral"}}]},
    ]
    answer = await client.messages.create(
        model="demo", max_tokens=9, messages=messages, tools=TOOLS, system="Be brief.", thinking={"type": "disabled"}
    )
    assert answer.content[0].type == "text"
    told = json.loads(answer.content[0].text)
    system, _, assistant, tool, _ = told["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert (assistant["content"], assistant["reasoning_content"]) == ("Let me look.", "Which city?")
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"city": "Rö}"}
    assert tool == {"role": "tool", "content": "sunny", "tool_call_id": ours.content[2].id}
    assert told["tools"][0]["function"] == {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object"},
    }
    assert told["template_kwargs"] == {"enable_thinking": False, "thinking": False}


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "good"}, 200),
        ({"Authorization": "Bearer good"}, 200),
        ({"x-api-key": "good", "Authorization": "Bearer good"}, 200),
        ({"x-api-key": "", "Authorization": "Bearer good"}, 200),
        ({"x-api-key": "other", "Authorization": "Bearer good"}, 401),
        ({"x-api-key": "good", "Authorization": "Basic Z29vZA=="}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({}, 401),
    ],
)
async def test_the_key_may_come_in_anthropic_s_header(api: Api, headers: dict[str, str], status: int) -> None:
    for path in ("/v1/messages", "/messages"):
        async with owning_session(api.url) as session:
            sent = {**headers, "anthropic-version": "2023-06-01"}
            answer = await session.post(path, json=body_of("say:x"), headers=sent)
            body = await answer.json()
        assert answer.status == status
        if status == 401:
            assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")
            assert body["request_id"] == answer.headers["request-id"]


async def test_that_header_counts_nowhere_else(api: Api) -> None:
    async with owning_session(api.url) as session:
        answer = await session.get("/v1/models", headers={"x-api-key": "good"})
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "invalid_api_key"
        both = {"x-api-key": "other", "Authorization": "Bearer good"}
        assert (await session.get("/v1/models", headers=both)).status == 200


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "kind", "code", "param"),
    [
        ({"model": "nope"}, "not_found_error", "model_not_found", "model"),
        ({"max_tokens": None}, "invalid_request_error", "invalid_request", "max_tokens"),
        ({"max_tokens": -1}, "invalid_request_error", "invalid_request", "max_tokens"),
        ({"temperature": 1.5}, "invalid_request_error", "invalid_request", "temperature"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, "invalid_request_error", "invalid_request", "tool_choice"),
        ({"messages": []}, "invalid_request_error", "invalid_request", "messages"),
    ],
)
async def test_what_is_wrong_is_said_in_anthropic_s_words(
    api: Api, fields: dict[str, Any], kind: str, code: str, param: str
) -> None:
    for stream in (False, True):
        answer = await api.session.post("/v1/messages", json=body_of("say:x", stream=stream, **fields))
        body = await answer.json()
        assert answer.status == (404 if kind == "not_found_error" else 400)
        assert body["type"] == "error"
        assert body["error"]["type"] == kind
        assert body["error"]["details"] == {"error_code": code, "param": param}
        assert body["request_id"] == answer.headers["request-id"]


async def test_a_field_that_is_missing_is_named(api: Api) -> None:
    answer = await api.session.post("/v1/messages", json={"model": "demo", "messages": body_of("x")["messages"]})
    assert "max_tokens" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("model_unavailable", anthropic.InternalServerError),
        ("deadline_exceeded", anthropic.InternalServerError),
        ("internal_error", anthropic.InternalServerError),
        ("context_length_exceeded", anthropic.BadRequestError),
        ("kv_cache_full", anthropic.InternalServerError),
    ],
)
async def test_failures_are_the_client_s_own_exceptions(
    client: anthropic.AsyncAnthropic, code: str, error: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(error) as raised:
        await client.messages.create(**body_of(f"fail:{code}"))
    assert raised.value.error_code == code
    assert raised.value.request_id is not None


async def test_wrong_methods_and_paths_have_the_shape_too(api: Api) -> None:
    for method, path, status in (("GET", "/v1/messages", 405), ("POST", "/v1/messages/batches", 404)):
        answer = await api.session.request(method, path)
        assert (answer.status, (await answer.json())["type"]) == (status, "error")


async def test_a_client_that_waits_is_pinged(start_api: ApiFactory, gate: Gate) -> None:
    api = await start_api(limits=FAST)
    answer = await api.session.post("/v1/messages", json=body_of(f"{gate.word} say:late", stream=True))
    begun = await heard(answer, b"event: ping\n", 2)
    gate.open()
    found = events(begun.decode() + await answer.text())
    assert found[-1] == {"type": "message_stop"}
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key="good", max_retries=0) as client:
        async with client.messages.stream(**body_of("sleep:0.3 say:late")) as stream:
            assert await stream.get_final_text() == "late"
        answer = await client.messages.create(**body_of("sleep:0.3 say:late"))
    assert answer.content[0].type == "text"


async def test_a_failure_in_a_stream_is_an_error_event(start_api: ApiFactory) -> None:
    api = await start_api(limits=FAST)
    last = (await streamed(api, "say:x sleep:0.2 fail:engine_crash"))[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "overloaded_error")
    assert last["request_id"] == api.records[-1].id
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key="good", max_retries=0) as client:
        stream = await client.messages.create(**body_of("say:x sleep:0.2 fail:engine_crash"), stream=True)
        with pytest.raises(anthropic.APIStatusError, match="told to fail"):
            _ = [event async for event in stream]


async def test_a_limit_is_said_with_its_time(start_api: ApiFactory) -> None:
    limited = {"tester": PrincipalSettings(requests_per_minute=1)}
    api = await start_api(principals=limited)
    assert (await api.session.post("/v1/messages", json=body_of("say:x"))).status == 200
    refused = await api.session.post("/v1/messages", json=body_of("say:x"))
    assert (refused.status, (await refused.json())["error"]["type"]) == (429, "rate_limit_error")
    assert int(refused.headers["Retry-After"]) > 0


async def test_tokens_of_a_model_of_other_servers_are_not_counted(start_api: ApiFactory) -> None:
    spec = UpstreamSpec(id="far", replicas=(UpstreamReplica(base_url="http://127.0.0.1:1/v1"),))
    api = await start_api(specs=[spec])
    answer = await api.session.post("/v1/messages/count_tokens", json=body_of("say:x", model="far"))
    body = await answer.json()
    assert (answer.status, body["error"]["details"]["error_code"]) == (400, "unsupported_parameter")


# ── structured output ─────────────────────────────────────────────────────────────────────────────────────────────────


class Person(pydantic.BaseModel):
    name: str
    age: int


ANN = Person(name="Ann", age=4)
SAYS_ANN: Any = {"role": "user", "content": 'say:{"name":"Ann","age":4}'}


async def test_the_client_parses_what_it_asked_for(client: anthropic.AsyncAnthropic) -> None:
    asked: Any = {"model": "demo", "max_tokens": 50, "messages": [SAYS_ANN], "output_format": Person}
    assert (await client.messages.parse(**asked)).parsed_output == ANN
    async with client.messages.stream(**asked) as stream:
        assert (await stream.get_final_message()).parsed_output == ANN
    assert (await client.beta.messages.parse(**asked)).parsed_output == ANN


async def test_the_schema_travels_in_the_add(api: Api, client: anthropic.AsyncAnthropic) -> None:
    schema: Any = {"type": "object", "properties": {"schema": {"type": "string"}}}
    form: Any = {"type": "json_schema", "schema": schema}
    for fields in ({"output_config": {"format": form}}, {"output_format": form}):
        told = json.loads((await whole(api, "tell", **fields))["content"][0]["text"])
        assert told["constraint"]["param"] == "output_config.format.schema"
        assert json.loads(told["constraint"]["text"]) == schema
    with pytest.raises(anthropic.BadRequestError) as refused:
        await client.messages.create(
            **body_of("x"), output_config={"format": form}, tools=TOOLS, tool_choice={"type": "any"}
        )
    assert refused.value.body["error"]["details"]["param"] == "output_config.format.schema"  # type: ignore[index]
