"""Calls of tools over HTTP, and what a model thinks: streams, whole answers, the official client's view of both."""

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
from tests.api.conftest import Api, ApiFactory, heard, sse
from tests.fakes.gate import Gate

TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "now"}},
]
CALLS = (
    "<think>\nWhich city?\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rö}"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def script(text: str, answer: str = "hermes,think", verb: str = "spell") -> str:
    return f"read:{answer} {verb}:{quote(text, safe='')}"


async def streamed(api: Api, prompt: str, **fields: Any) -> list[Any]:
    blocks: list[Any] = sse(await (await api.chat(prompt, stream=True, **fields)).text())
    assert blocks[-1] == "[DONE]"
    return [choice for chunk in blocks[:-1] for choice in chunk["choices"]]


async def whole(api: Api, prompt: str, **fields: Any) -> Any:
    return await (await api.chat(prompt, **fields)).json()


def rebuilt(choices: list[Any]) -> dict[str, Any]:
    """A message out of a stream, as clients put it together."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for choice in choices:
        delta = choice["delta"]
        message["content"] += delta.get("content") or ""
        message["reasoning_content"] += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(message["tool_calls"]):
                message["tool_calls"].append({"id": call["id"], "type": call["type"], "function": call["function"]})
            else:
                assert call["index"] == len(message["tool_calls"]) - 1, "a call began before the last was complete"
                message["tool_calls"][-1]["function"]["arguments"] += call["function"]["arguments"]
    return message


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    calls = [{**call, "id": ""} for call in message.get("tool_calls", ())]
    return {**message, "tool_calls": calls, "role": "assistant"}


async def test_a_stream_and_a_whole_answer_are_the_same(api: Api) -> None:
    answer = await whole(api, script(CALLS), tools=TOOLS)
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["content"], message["reasoning_content"]) == ("Let me look.", "Which city?")
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["get_weather", "now"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "Rö}"}
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == len("<think>\nWhich city?\n</think>")
    for verb in ("spell", "write"):
        choices = await streamed(api, script(CALLS, verb=verb), tools=TOOLS)
        assert without_ids(rebuilt(choices)) == without_ids(message)
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["tool_calls"]
    assert {record.finish_reason for record in api.records} == {"tool_calls"}


async def test_a_call_begins_with_its_name_and_id(api: Api) -> None:
    choices = await streamed(api, script('<tool_call>{"name": "now"}</tool_call>'), tools=TOOLS)
    opening, name, arguments, end = (choice["delta"] for choice in choices)
    assert opening == {"role": "assistant", "content": ""}
    (call,) = name["tool_calls"]
    assert call["id"].startswith("call_")
    assert {**call, "id": ""} == {
        "index": 0,
        "function": {"arguments": "", "name": "now"},
        "id": "",
        "type": "function",
    }
    assert arguments == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    assert end == {}


async def test_calls_alone_have_no_content(api: Api) -> None:
    answer = await whole(api, script('<tool_call>{"name": "now"}</tool_call>'), tools=TOOLS)
    assert answer["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "now", "arguments": {"a": </tool_call>',
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "now", "argum',
        "<tool_call>no JSON at all</tool_call>",
    ],
)
async def test_a_call_that_cannot_be_made_is_text_with_a_flag(api: Api, text: str) -> None:
    choice = (await whole(api, script(text), tools=TOOLS))["choices"][0]
    assert choice["message"] == {"content": text, "role": "assistant"}
    assert choice["finish_reason"] == "stop"
    assert choice["appliance_unparsed_tool_call"] is True
    choices = await streamed(api, script(text), tools=TOOLS)
    assert rebuilt(choices)["content"] == text
    assert choices[-1]["appliance_unparsed_tool_call"] is True
    assert not any("appliance_unparsed_tool_call" in choice for choice in choices[:-1])


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}])
async def test_without_tools_nothing_is_a_call(api: Api, fields: dict[str, Any]) -> None:
    text = '<tool_call>{"name": "now"}</tool_call>'
    choice = (await whole(api, script(text), **fields))["choices"][0]
    assert choice["message"] == {"content": text, "role": "assistant"}
    assert choice["finish_reason"] == "stop"


async def test_a_call_that_must_be_made_travels_in_the_add(api: Api) -> None:
    async def told(**fields: Any) -> Any:
        answer = await whole(api, "tell", **fields)
        return json.loads(answer["choices"][0]["message"]["content"])["must_call"]

    named = {"type": "function", "function": {"name": "now"}}
    assert await told(tools=TOOLS) is None
    assert await told(tools=TOOLS, tool_choice="required") == {
        "only": [],
        "parallel": True,
        "param": "tool_choice",
    }
    assert await told(tools=TOOLS, tool_choice=named, parallel_tool_calls=False) == {
        "only": ["now"],
        "parallel": False,
        "param": "tool_choice",
    }
    choice = (await whole(api, script(CALLS), tools=TOOLS, tool_choice="required"))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"


async def test_one_call_at_a_time(api: Api) -> None:
    prompt = script(CALLS) + " hang"
    for answer in (
        (await whole(api, prompt, tools=TOOLS, parallel_tool_calls=False))["choices"][0]["message"],
        rebuilt(await streamed(api, prompt, tools=TOOLS, parallel_tool_calls=False)),
    ):
        assert [call["function"]["name"] for call in answer["tool_calls"]] == ["get_weather"]
    assert [(record.outcome, record.finish_reason) for record in api.records] == [("ok", "tool_calls")] * 2


async def test_functions_are_answered_with_a_function_call(api: Api) -> None:
    functions = [tool["function"] for tool in TOOLS]
    choice = (await whole(api, script(CALLS), functions=functions))["choices"][0]
    assert choice["message"]["function_call"] == {"arguments": '{"city": "Rö}"}', "name": "get_weather"}
    assert choice["finish_reason"] == "function_call"
    assert "tool_calls" not in choice["message"]
    deltas = [choice["delta"] for choice in await streamed(api, script(CALLS), functions=functions)]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert calls == [{"arguments": "", "name": "get_weather"}, {"arguments": '{"city": "Rö}"}'}]


async def test_an_answer_that_is_cut_off_ends_with_length(api: Api) -> None:
    choice = (await whole(api, script(CALLS) + " late", tools=TOOLS))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["tool_calls"]) == 2


async def test_log_probabilities_of_what_is_held_back_come_later(api: Api) -> None:
    text = 'Hi<tool_call>{"name": "now"}</tool_call>'
    choices = await streamed(api, script(text), tools=TOOLS, logprobs=True)
    tokens = [entry["token"] for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
    assert "".join(tokens) == text


async def test_reasoning_that_the_prompt_began(api: Api) -> None:
    prompt = script("so it is</think>\n\nYes.", "none,think,thinking")
    message = (await whole(api, prompt))["choices"][0]["message"]
    assert message == {"content": "Yes.", "role": "assistant", "reasoning_content": "so it is"}
    as_it_is = (await whole(api, prompt, reasoning_format="none"))["choices"][0]["message"]
    assert as_it_is == {"content": "so it is</think>\n\nYes.", "role": "assistant"}


async def test_markers_never_leak(api: Api) -> None:
    choices = await streamed(api, script(CALLS), tools=TOOLS)
    texts = [choice["delta"].get(name) or "" for choice in choices for name in ("content", "reasoning_content")]
    assert not any("<" in text or ">" in text for text in texts)


async def test_plain_text_is_not_held_back(api: Api, gate: Gate) -> None:
    prompt = f"{script('Hel', verb='write')} {gate.word} write:lo."
    answer = await api.chat(prompt, tools=TOOLS, stream=True)
    assert b"lo." not in await heard(answer, b'"content":"Hel"')
    gate.open()
    assert '"content":"lo."' in await answer.text()


async def test_a_long_call_is_kept_alive(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(ping_seconds=0.05))
    prompt = script('<tool_call>{"name": "now", "arg') + "".join(" sleep:0.04 say:_" for _ in range(20))
    body = await (await api.chat(prompt, tools=TOOLS, stream=True)).text()
    assert body.count(": ping") >= 2


async def test_choices_are_read_one_by_one(api: Api) -> None:
    call = quote('<tool_call>{"name": "now"}</tool_call>', safe="")
    prompt = f"read:hermes,think 7?write:{call} 8?write:{quote('<think>a</think>b', safe='')}"
    first, second = (await whole(api, prompt, tools=TOOLS, n=2, seed=7))["choices"]
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "stop")
    assert second["message"] == {"content": "b", "role": "assistant", "reasoning_content": "a"}


async def test_only_plain_answers_are_given_again(start_api: ApiFactory) -> None:
    spec = ModelSpec(id="demo", path="/nowhere.gguf", preload=True, sampling=SamplingParams(temperature=0))
    alias = AliasSpec(versions={"demo": 1}, fallback=FallbackSpec(repeats_mib=1))
    api = await start_api(specs=[spec], aliases={"chat": alias})
    for text, kept in (
        ("<think>a</think>b", False),
        ("plain", True),
        ('<tool_call>{"name": "now"}</tool_call>', False),
    ):
        before = len(api.router.repeats._kept.get("chat", ()))
        assert (await api.chat(script(text), model="chat", tools=TOOLS)).status == 200
        assert len(api.router.repeats._kept.get("chat", ())) - before == int(kept)


async def test_what_the_template_gets(api: Api) -> None:
    async def kwargs(**fields: Any) -> Any:
        text = (await whole(api, "prompt", **fields))["choices"][0]["message"]["content"]
        return json.loads(text).get("template_kwargs")

    both = {"enable_thinking": False, "thinking": False}
    assert await kwargs() == {}
    assert await kwargs(enable_thinking=False) == both
    assert await kwargs(thinking={"type": "disabled"}) == both
    assert await kwargs(thinking=False) == both
    assert await kwargs(chat_template_kwargs={"enable_thinking": False, "x": 1}) == {**both, "x": 1}
    assert await kwargs(chat_template_kwargs={"thinking": True}, enable_thinking=False) == {
        "enable_thinking": True,
        "thinking": True,
    }
    assert await kwargs(reasoning_effort="high") == {"reasoning_effort": "high"}
    assert await kwargs(reasoning_effort="none") == {"reasoning_effort": "none", **both}


@pytest.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key="good", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


async def test_the_official_client_reads_calls(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": script(CALLS)}]
    answer = await client.chat.completions.create(model="demo", messages=messages, tools=TOOLS)
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls if call.type == "function"] == ["get_weather", "now"]
    assert answer.choices[0].message.model_extra == {"reasoning_content": "Which city?"}
    async with client.chat.completions.stream(model="demo", messages=messages, tools=TOOLS) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert [call.function.arguments for call in final.choices[0].message.tool_calls or ()] == ['{"city": "Rö}"}', "{}"]
    assert final.choices[0].finish_reason == "tool_calls"


async def test_the_official_client_sends_calls_back(client: openai.AsyncOpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    messages: Any = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12:00", "tool_call_id": "call_1"},
        {"role": "user", "content": "prompt"},
    ]
    answer = await client.chat.completions.create(model="demo", messages=messages, tools=TOOLS)
    told = json.loads(answer.choices[0].message.content or "")
    assert told["messages"][1]["tool_calls"][0]["id"] == "call_1"
    assert told["messages"][2]["tool_call_id"] == "call_1"


async def test_a_call_of_a_tool_that_is_not_allowed_is_text(api: Api) -> None:
    def allowed(mode: str, name: str) -> Any:
        function = {"type": "function", "function": {"name": name}}
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [function]}}

    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    choice = (await whole(api, script(call), tools=TOOLS, tool_choice=allowed("auto", "now")))["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "now"
    choice = (await whole(api, script(call), tools=TOOLS, tool_choice=allowed("auto", "get_weather")))["choices"][0]
    assert (choice["message"]["content"], choice["appliance_unparsed_tool_call"]) == (call, True)
    answer = await whole(api, "tell", tools=TOOLS, tool_choice=allowed("required", "now"))
    told = json.loads(answer["choices"][0]["message"]["content"])
    assert told["must_call"]["only"] == ["now"]
