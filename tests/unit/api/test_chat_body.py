"""A chat as another server gets it."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.api.chat_body import chat_body
from appliance.api.openai_schema import ChatCompletionRequest, with_sampling
from appliance.api.tool_choice import asked_tools

USER = {"role": "user", "content": "x"}


def sent(**fields: Any) -> Any:
    body = msgspec.json.encode({"model": "m", "messages": [USER], **fields})
    chat = msgspec.json.decode(body, type=with_sampling(ChatCompletionRequest))
    return msgspec.json.decode(chat_body(chat, asked_tools(chat)))


def test_what_is_not_said_is_not_there() -> None:
    assert sent() == {"model": "m", "messages": [USER]}
    said = {"temperature": 0.5, "top_k": 3, "stop": ["a"], "seed": 7, "max_completion_tokens": 9, "stream": True}
    assert sent(**said, user=None) == {"model": "m", "messages": [USER], **said}


def test_texts_are_joined_and_calls_are_whole() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    calls = [{"function": {"name": "f", "arguments": "{}"}}, {"id": "c", "function": {"name": "g"}}]
    turns = [{"role": "developer", "content": parts}, {"role": "assistant", "content": None, "tool_calls": calls}]
    assert sent(messages=[*turns, {"role": "tool", "tool_call_id": "c", "content": "r"}])["messages"] == [
        {"role": "system", "content": "a\nb"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "content": "r", "tool_call_id": "c"},
    ]


def test_a_choice_goes_with_its_tools() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert sent(tools=tools, tool_choice="required", parallel_tool_calls=False) == {
        "model": "m",
        "messages": [USER],
        "tools": tools,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    assert sent(tools=[], tool_choice="auto") == sent()


def test_forms_and_thinking() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
    assert sent(response_format=form)["response_format"] == form
    asked = sent(thinking={"type": "disabled"}, reasoning_effort="low")
    assert asked["thinking"] == {"type": "disabled"}
    assert asked["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"}
    assert "chat_template_kwargs" not in sent(reasoning_effort="low")
