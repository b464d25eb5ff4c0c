"""What Dify's OpenAI-API-compatible plugin sends, byte for byte as its code does: one new connection a call."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import jsonschema
import msgspec
import pytest

from tests.e2e.appliance_process import Appliance

PING: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "ping"}]}

VALIDATIONS = {
    "blocking": ("/v1/chat/completions", PING | {"max_tokens": 5}),
    "stream": ("/v1/chat/completions", PING | {"max_tokens": 10, "stream": True}),
    "max_completion_tokens": ("/v1/chat/completions", PING | {"max_completion_tokens": 16, "stream": False}),
    "thinking": ("/v1/chat/completions", PING | {"max_tokens": 5, "thinking": {"type": "disabled"}}),
    "completion": ("/v1/completions", {"model": "demo", "prompt": "ping", "max_tokens": 5}),
}


async def post(appliance: Appliance, path: str, body: dict[str, Any]) -> tuple[int, str]:
    async with appliance.session() as session, session.post(path, json=body) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("form", list(VALIDATIONS))
async def test_every_form_of_credential_validation_passes(demo: Appliance, form: str) -> None:
    path, body = VALIDATIONS[form]
    status, text = await post(demo, path, body)
    assert status == 200
    if not body.get("stream"):
        expected = "text_completion" if form == "completion" else "chat.completion"
        assert msgspec.json.decode(text)["object"] == expected


async def test_an_app_s_chat_with_everything_dify_may_add(demo: Appliance) -> None:
    body = {
        "model": "demo",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": ""},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "user", "content": "Who are you?"},
        ],
        "temperature": 0.01,
        "top_p": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "max_tokens": 160,
        "stop": ["Observation"],
        "user": "5f2c0a0e",
        "enable_thinking": False,
        "chat_template_kwargs": {"enable_thinking": False, "thinking": False},
        "reasoning_format": "none",
        "response_format": {"type": "text"},
    }
    status, text = await post(demo, "/v1/chat/completions", body)
    assert status == 200
    usage: Any = None
    answer = ""
    for block in text.split("\n\n"):
        block = block.strip()
        if not block or block.startswith(":"):
            continue
        data = block.removeprefix("data:").strip()
        if data == "[DONE]":
            continue
        chunk = msgspec.json.decode(data)
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            answer += choice["delta"].get("content") or ""
    assert answer
    assert type(usage["prompt_tokens"]) is type(usage["completion_tokens"]) is int


async def test_a_tool_round_trip(demo: Appliance) -> None:
    tools = [
        {"type": "function", "function": {"name": "get_time", "description": "Get the current time", "parameters": {}}}
    ]
    question = {"role": "user", "content": "What time is it?"}
    status, text = await post(
        demo, "/v1/chat/completions", {"model": "demo", "messages": [question], "tools": tools, "tool_choice": "auto"}
    )
    assert status == 200
    choice = msgspec.json.decode(text)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]) == ("function", {"arguments": "{}", "name": "get_time"})
    history = [
        question,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"time": "12:30"}', "tool_call_id": call["id"]},
    ]
    status, text = await post(demo, "/v1/chat/completions", {"model": "demo", "messages": history, "tools": tools})
    assert status == 200
    assert "12:30" in msgspec.json.decode(text)["choices"][0]["message"]["content"]


async def test_prompt_tokens_are_the_same_streaming_and_not(demo: Appliance) -> None:
    _, blocking = await post(demo, "/v1/chat/completions", PING | {"max_tokens": 3})
    _, stream = await post(demo, "/v1/chat/completions", PING | {"max_tokens": 3, "stream": True})
    finish = msgspec.json.decode(stream.split("\n\n")[-3].removeprefix("data: "))
    assert finish["usage"]["prompt_tokens"] == msgspec.json.decode(blocking)["usage"]["prompt_tokens"]


async def test_a_key_is_not_echoed_in_errors(demo: Appliance) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=demo.context())) as session:
        answer = await session.get(f"{demo.url}/v1/models", headers={"Authorization": "Bearer apl_sk_secretsecret"})
        assert answer.status == 401
        assert "secret" not in await answer.text()


# As Dify sends it: booleans rewritten to texts, no `strict`, and the system prompt tells the model.
STRUCTURED: dict[str, Any] = {
    "schema": {
        "type": "object",
        "properties": {
            "mood": {"type": "string", "enum": ["good", "bad"]},
            "known": {"type": "string", "maxLength": 20},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
        },
        "required": ["mood", "known", "score", "tags"],
        "additionalProperties": False,
    },
    "name": "llm_response",
}


@pytest.mark.parametrize(
    ("form", "stream"), [(STRUCTURED, False), (STRUCTURED, True), (STRUCTURED["schema"] | {"title": "bare"}, True)]
)
async def test_structured_output_is_valid(demo: Appliance, form: dict[str, Any], stream: bool) -> None:
    body = {
        "model": "demo",
        "stream": stream,
        "messages": [
            {"role": "system", "content": f"Answer in JSON by this schema: {STRUCTURED['schema']}"},
            {"role": "user", "content": "How are you?"},
        ],
        "response_format": {"type": "json_schema", "json_schema": form},
        "max_tokens": 400,
    }
    status, text = await post(demo, "/v1/chat/completions", body)
    assert status == 200, text
    if stream:
        blocks = [block.removeprefix("data: ") for block in text.split("\n\n") if block.startswith("data: {")]
        choices = [choice for block in blocks for choice in msgspec.json.decode(block)["choices"]]
        answer = "".join(choice["delta"].get("content") or "" for choice in choices)
        assert choices[-1]["finish_reason"] == "stop"
    else:
        (choice,) = msgspec.json.decode(text)["choices"]
        answer = choice["message"]["content"]
        assert choice["finish_reason"] == "stop"
    jsonschema.validate(json.loads(answer), STRUCTURED["schema"])


async def test_a_schema_that_cannot_be_kept_is_refused_before_the_answer(demo: Appliance) -> None:
    body = PING | {"stream": True, "response_format": {"type": "json_schema", "json_schema": {"not": {}}}}
    status, text = await post(demo, "/v1/chat/completions", body)
    error = msgspec.json.decode(text)["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_request", "response_format.json_schema.not")
