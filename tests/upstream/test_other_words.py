"""Anthropic's Messages and OpenAI's Responses of a model that another server serves, which is asked for a chat."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from msgspec.json import decode

from appliance.access_config import Responses
from tests.unit.responses.making import Site
from tests.upstream.conftest import Serve

FUNCTION: Any = {"name": "now", "description": "d", "parameters": {"type": "object"}}
TOOL: Any = {"name": "now", "description": "d", "input_schema": {"type": "object"}}
SAYS = "think:Hm say:Let say:me call:now call:now"


def anthropics(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="good", max_retries=0, _strict_response_validation=True)


def openais(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="good", max_retries=0, _strict_response_validation=True)


async def test_messages(serve: Serve) -> None:
    api, (server,) = await serve()
    asked: Any = {"model": "demo", "max_tokens": 50, "tools": [TOOL], "system": "Be brief."}
    asked |= {"messages": [{"role": "user", "content": SAYS}], "thinking": {"type": "enabled", "budget_tokens": 1024}}
    async with anthropics(api.url) as client:
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            final = await stream.get_final_message()
    for message in (whole, final):
        blocks = [block.model_dump() for block in message.content]
        assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
        assert (blocks[0]["thinking"], blocks[1]["text"]) == ("Hm", "Letme")
        assert [block["input"] for block in blocks[2:]] == [{"a": 1}] * 2
        assert (message.stop_reason, message.model) == ("tool_use", "demo")
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens) == (7, 4)
    sent = server.requests[0][1]
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAYS}]
    assert sent["tools"] == [{"type": "function", "function": FUNCTION}]
    assert (sent["model"], sent["max_tokens"]) == ("theirs", 50)
    assert sent["chat_template_kwargs"] == {"enable_thinking": True, "thinking": True}
    assert not {name for name, value in sent.items() if value is None}
    assert [record.path for record in api.records] == ["/v1/messages"] * 2
    assert [record.prompt_tokens for record in api.records] == [11, 11]


async def test_a_conversation_with_calls_goes_there_as_a_chat(serve: Serve) -> None:
    api, (server,) = await serve()
    turns: Any = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "now", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "noon"}]},
        {"role": "user", "content": "say:ok stop:END"},
    ]
    form: Any = {"type": "json_schema", "schema": {"type": "object"}}
    async with anthropics(api.url) as client:
        message = await client.messages.create(
            model="demo", max_tokens=5, messages=turns, stop_sequences=["END"], output_config={"format": form}
        )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    sent = server.requests[0][1]
    call = {"id": "t1", "type": "function", "function": {"name": "now", "arguments": '{"a":1}'}}
    assert sent["messages"][1:3] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_call_id": "t1"},
    ]
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
    assert (sent["stop"], "tools" in sent, "tool_choice" in sent) == (["END"], False, False)


async def test_responses(serve: Serve, tmp_path: Any) -> None:
    api, (server,) = await serve(responses=Site(tmp_path).store(Responses()))
    asked: Any = {"model": "demo", "input": SAYS, "tools": [{"type": "function", **FUNCTION}], "store": True}
    async with openais(api.url) as client:
        whole = await client.responses.create(**asked)
        async with client.responses.stream(**asked) as stream:
            final = await stream.get_final_response()
        for response in (whole, final):
            kinds = [item.type for item in response.output]
            assert kinds == ["reasoning", "message", "function_call", "function_call"]
            assert (response.output_text, response.model, response.status) == ("Letme", "demo", "completed")
        assert await client.responses.retrieve(whole.id) == whole
        following = await client.responses.create(model="demo", input="say:b", previous_response_id=whole.id)
    assert following.output_text == "b"
    assert [turn["role"] for turn in server.requests[-1][1]["messages"]] == ["user", "assistant", "user"]


async def test_a_call_of_no_tool_is_text(serve: Serve) -> None:
    api, _ = await serve()
    for stream in (False, True):
        body = {"model": "demo", "max_tokens": 5, "messages": [{"role": "user", "content": "call:then"}]}
        body |= {"tools": [TOOL], "stream": stream}
        text = await (await api.session.post("/v1/messages", json=body)).text()
        assert "appliance_unparsed_tool_call" in text
        assert "tool_use" not in text.replace('"stop_reason":"tool_use"', "")


@pytest.mark.parametrize(("script", "status"), [("status:400", 400), ("garbage", 503), ("status:429", 503)])
async def test_refusals_come_in_the_words_of_the_path(serve: Serve, script: str, status: int) -> None:
    api, _ = await serve()
    body = {"model": "demo", "max_tokens": 5, "messages": [{"role": "user", "content": script}]}
    answer = await api.session.post("/v1/messages", json=body)
    error = decode(await answer.read())
    assert (answer.status, error["type"]) == (status, "error"), error
    if status == 400:
        assert error["error"]["details"]["param"] == "max_tokens"


async def test_a_stream_that_fails_ends_with_an_error(serve: Serve) -> None:
    api, _ = await serve()
    for path, fields in (
        ("messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "say:a error"}]}),
        ("responses", {"input": "say:a error"}),
    ):
        answer = await api.session.post(f"/v1/{path}", json={"model": "demo", "stream": True, **fields})
        events = [json.loads(line[6:]) for line in (await answer.text()).splitlines() if line.startswith("data: ")]
        assert "error" in [event["type"] for event in events[-2:]]
