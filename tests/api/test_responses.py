"""POST /v1/responses over HTTP: the official client reads every answer strictly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import openai
import pytest

from appliance.alias_spec import AliasSpec, FallbackSpec
from appliance.config import RequestLimits
from appliance.types import ModelSpec, SamplingParams
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec
from tests.api.conftest import Api, ApiFactory, heard
from tests.fakes.gate import Gate

TOOLS: Any = [
    {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False},
    {"type": "function", "name": "now", "parameters": {}, "strict": None},
]
CALLS = (
    "<think>\nWhich city?\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rö}"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def script(text: str, answer: str = "hermes,think", verb: str = "spell") -> str:
    return f"read:{answer} {verb}:{quote(text, safe='')}"


@pytest.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key="good", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


async def post(api: Api, **fields: Any) -> Any:
    answer = await api.session.post("/v1/responses", json={"model": "demo", **fields})
    return await answer.json()


async def refused(api: Api, **fields: Any) -> tuple[int, str, str]:
    answer = await api.session.post("/v1/responses", json={"model": "demo", "input": "x", **fields})
    error = (await answer.json())["error"]
    return answer.status, error["code"], error["param"]


def alike(response: Any) -> Any:
    """A response without what no two have in common."""
    text = json.dumps(json.loads(response.to_json()) if hasattr(response, "to_json") else response)
    value = json.loads(text.replace(response.id, "R").replace(response.id.removeprefix("resp_"), "R"))
    for item in value["output"]:
        item.pop("call_id", None)
    return {**value, "created_at": 0, "completed_at": 0}


async def test_a_text(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="demo", input="started say:Hel say:lo", instructions="Be kind.", metadata={"a": "b"}, temperature=0.5
    )
    assert (response.output_text, response.status) == ("Hello", "completed")
    assert (response.instructions, response.metadata, response.temperature) == ("Be kind.", {"a": "b"}, 0.5)
    assert response.model_extra is not None
    assert response.model_extra["store"] is False
    assert response.model_extra.keys() == {"store", "system_fingerprint"}
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (7, 2, 9)
    assert response.usage.input_tokens_details.cached_tokens == 3


async def test_calls_and_thoughts(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="demo", input=script(CALLS), tools=TOOLS)
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    thought, said, call, second = response.output
    assert thought.type == "reasoning"
    assert [part.text for part in thought.content or ()] == ["Which city?"]
    assert said.type == "message"
    assert response.output_text.strip() == "Let me look."
    assert call.type == second.type == "function_call"
    assert (call.name, json.loads(call.arguments), second.name) == ("get_weather", {"city": "Rö}"}, "now")
    assert call.call_id != second.call_id
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert response.status == "completed"


async def test_a_stream_is_the_whole_answer(client: openai.AsyncOpenAI) -> None:
    fields: Any = {"model": "demo", "input": script(CALLS), "tools": TOOLS}
    whole = await client.responses.create(**fields)
    events = [event async for event in await client.responses.create(**fields, stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    last = events[-1]
    assert last.type == "response.completed"
    assert alike(last.response) == alike(whole)
    items = [event.item for event in events if event.type == "response.output_item.done"]
    assert items == last.response.output
    for number, item in enumerate(items):
        deltas = [event.delta for event in events if event.type.endswith(".delta") and event.output_index == number]
        text = item.arguments if item.type == "function_call" else item.content[0].text
        assert "".join(deltas) == text


async def test_the_clients_own_accumulation(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", input=script(CALLS), tools=TOOLS) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert "response.reasoning_text.delta" in kinds
    assert final.output_text.strip() == "Let me look."


async def test_events_are_named_and_the_last_one_is_the_end(api: Api) -> None:
    answer = await api.session.post("/v1/responses", json={"model": "demo", "input": "started say:x", "stream": True})
    blocks = (await answer.text()).split("\n\n")
    assert blocks.pop() == ""
    for block in blocks:
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
    assert blocks[-1].startswith("event: response.completed\n")


async def test_pings_between_events(start_api: ApiFactory, gate: Gate) -> None:
    api = await start_api(limits=RequestLimits(ping_seconds=0.05, commit_stream_seconds=0.05))
    prompt = f"{gate.word} started say:a sleep:0.2 say:b"
    raw = await api.session.post("/v1/responses", json={"model": "demo", "input": prompt, "stream": True})
    assert (await heard(raw, b"\n\n")).startswith(b": ping\n\n")
    gate.open()
    await raw.read()
    async with (
        openai.AsyncOpenAI(base_url=api.url, api_key="good", max_retries=0) as client,
        client.responses.stream(model="demo", input=prompt) as stream,
    ):
        assert (await stream.get_final_response()).output_text == "ab"


async def test_an_answer_that_was_cut_off_is_incomplete(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="demo", input="started say:a late", stream=True)
    events = [event async for event in answer]
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    (message,) = last.response.output
    assert message.type == "message" and message.status == "incomplete"
    assert last.response.output_text == "a"


async def test_nothing_said_is_an_empty_message(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="demo", input="started")
    assert [item.type for item in response.output] == ["message"]
    assert response.output_text == ""


async def test_a_failure_within_a_stream(api: Api, client: openai.AsyncOpenAI) -> None:
    prompt = "started say:a sleep:0.1 fail:internal_error"
    events = [event async for event in await client.responses.create(model="demo", input=prompt, stream=True)]
    error, failed = events[-2:]
    assert error.type == "error"
    assert (error.code, failed.type) == ("internal_error", "response.failed")
    assert failed.type == "response.failed"
    assert failed.response.status == "failed"
    assert failed.response.error is not None
    assert failed.response.error.code == "server_error"
    assert failed.response.output_text == "a"
    assert api.records[-1].error_code == "internal_error"


async def test_a_failure_before_a_stream_is_a_status(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as late:
        await client.responses.create(model="demo", input="fail:deadline_exceeded", stream=True)
    assert late.value.code == "deadline_exceeded"


async def test_log_probabilities(client: openai.AsyncOpenAI) -> None:
    fields: Any = {"model": "demo", "input": "started say:a say:b", "top_logprobs": 2}
    whole = await client.responses.create(**fields, include=["message.output_text.logprobs"])
    message = whole.output[0]
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    logprobs = message.content[0].logprobs or []
    assert [(entry.token, len(entry.top_logprobs)) for entry in logprobs] == [("a", 2), ("b", 2)]
    events = [event async for event in await client.responses.create(**fields, stream=True)]
    streamed = [
        entry.token for event in events if event.type == "response.output_text.delta" for entry in event.logprobs
    ]
    assert streamed == ["a", "b"]
    plain = await client.responses.create(model="demo", input="started say:a")
    assert plain.output[0].to_dict()["content"][0]["logprobs"] == []  # type: ignore[index]


async def test_what_the_template_gets(api: Api) -> None:
    history = [
        {"role": "developer", "content": "Short."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text} for text in "xy"]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "let me", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "now", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "12:00"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "12:01"}]},
        {"role": "assistant", "content": "Noon."},
        {"role": "user", "content": "prompt"},
    ]  # fmt: skip
    response = await post(api, input=history, instructions="Be kind.", tools=TOOLS, reasoning={"effort": "high"})
    told = json.loads(response["output"][0]["content"][0]["text"])
    assert told["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "x\ny"},
        {
            "role": "assistant",
            "content": "let me",
            "tool_calls": [
                {"function": {"name": "now", "arguments": "{}"}, "id": "call_1"},
                {"function": {"name": "now", "arguments": "{}"}, "id": "call_2"},
            ],
            "reasoning_content": "hm",
        },
        {"role": "tool", "content": "12:00", "tool_call_id": "call_1"},
        {"role": "tool", "content": "12:01", "tool_call_id": "call_2"},
        {"role": "assistant", "content": "Noon."},
        {"role": "user", "content": "prompt"},
    ]
    assert told["template_kwargs"] == {"reasoning_effort": "high"}
    assert [tool["function"]["name"] for tool in told["tools"]] == ["get_weather", "now"]
    assert response["reasoning"]["effort"] == "high"


async def test_what_the_engine_gets(api: Api) -> None:
    response = await post(
        api, input="tell", max_output_tokens=5, temperature=0.25, top_p=0.5, top_k=3, stop="X", safety_identifier="me"
    )
    told = json.loads(response["output"][0]["content"][0]["text"])
    assert (told["max_tokens"], told["stop"]) == (5, ["X"])
    assert (told["sampling"]["temperature"], told["sampling"]["top_p"], told["sampling"]["top_k"]) == (0.25, 0.5, 3)
    assert told["flow"].endswith(":me")
    assert (response["temperature"], response["top_p"], response["max_output_tokens"]) == (0.25, 0.5, 5)
    assert response["safety_identifier"] == "me"


async def test_the_clients_own_items_come_back(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="demo", input=script(CALLS), tools=TOOLS)
    items: list[Any] = [item.to_dict() for item in first.output]
    results: list[Any] = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "sun"}
        for item in items
        if item["type"] == "function_call"
    ]
    second = await client.responses.create(
        model="demo", input=[{"role": "user", "content": "x"}, *items, *results, {"role": "user", "content": "prompt"}]
    )
    told = json.loads(second.output_text)["messages"]
    assert [turn["role"] for turn in told] == ["user", "assistant", "tool", "tool", "user"]
    assert (told[1]["reasoning_content"], len(told[1]["tool_calls"])) == ("Which city?", 2)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_request", "input[0].role"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0]"),
        ({"metadata": {"a": 1}}, "invalid_request", "metadata[...]"),
    ],
)
async def test_refusals(api: Api, fields: dict[str, Any], code: str, param: str) -> None:
    assert await refused(api, **fields) == (400, code, param)


async def test_ignored_fields(api: Api) -> None:
    response = await post(
        api, input="started say:x", n=3, truncation="auto", service_tier="flex", background=False, conversation=None,
        stream_options={"include_obfuscation": True}, unheard_of=1, max_tool_calls=2, prompt_cache_key="k",
    )  # fmt: skip
    assert response["output"][0]["content"][0]["text"] == "x"
    assert (response["max_tool_calls"], response["prompt_cache_key"], response["truncation"]) == (2, "k", "auto")


async def test_tokens_of_a_model_of_other_servers_are_not_counted(start_api: ApiFactory) -> None:
    spec = UpstreamSpec(id="far", replicas=(UpstreamReplica(base_url="http://127.0.0.1:1/v1"),))
    api = await start_api(specs=[spec])
    answer = await api.session.post("/v1/responses/input_tokens", json={"model": "far", "input": "x"})
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "unsupported_parameter")


async def test_fallbacks(start_api: ApiFactory) -> None:
    spec = ModelSpec(id="demo", path="/nowhere.gguf", preload=True, sampling=SamplingParams(temperature=0))
    fallback = FallbackSpec(repeats_mib=1, answer="Later.")
    api = await start_api(specs=[spec], aliases={"chat": AliasSpec(versions={"demo": 1}, fallback=fallback)})
    async with openai.AsyncOpenAI(base_url=api.url, api_key="good", max_retries=0) as client:
        response = await client.responses.create(model="chat", input="fail:engine_crash")
        assert (response.output_text, response.model) == ("Later.", "chat")
        async with client.responses.stream(model="chat", input="fail:engine_crash") as stream:
            assert (await stream.get_final_response()).output_text == "Later."
    assert api.records[-1].fallback == "answer"


async def test_a_call_that_must_be_made(api: Api, client: openai.AsyncOpenAI) -> None:
    for choice, only in (("required", []), ({"type": "function", "name": "now"}, ["now"])):
        fields: Any = {"tool_choice": choice, "tools": TOOLS}
        response = await client.responses.create(model="demo", input="tell", **fields)
        must_call = json.loads(response.output_text)["must_call"]
        assert must_call == {"only": only, "parallel": True, "param": "tool_choice"}
    form = {"format": {"type": "json_object"}}
    assert await refused(api, tools=TOOLS, tool_choice="required", text=form) == (400, "invalid_request", "text.format")


async def test_what_is_not_counted_and_not_compacted(api: Api, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="input: missing"):
        await client.responses.input_tokens.count(model="demo")
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.input_tokens.count(model="demo", input=[{"type": "item_reference", "id": "x"}])
    assert refused.value.param == "input[0]"
    with pytest.raises(openai.NotFoundError):
        await client.responses.input_tokens.count(model="nope", input="x")
    with pytest.raises(openai.BadRequestError, match="summary of the older items"):
        await client.responses.compact(model="demo", input="x")


async def test_what_may_be_left_out(api: Api, client: openai.AsyncOpenAI) -> None:
    for fields, room in (
        ({}, None),
        ({"truncation": "auto"}, 1024),
        ({"truncation": "auto", "max_output_tokens": 7}, 7),
    ):
        asked: Any = {"model": "demo", "input": "prompt", **fields}
        told = json.loads((await client.responses.create(**asked)).output_text)
        assert told["answer_room"] == room
    assert await refused(api, truncation="middle") == (400, "invalid_request", "truncation")
