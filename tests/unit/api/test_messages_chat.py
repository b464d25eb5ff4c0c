"""A request of Anthropic's as the chat it asks for."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from appliance.api.anthropic_schema import MessagesRequest
from appliance.api.chat import chat_prompt
from appliance.api.messages_chat import NAMES, chat_of
from appliance.api.openai_schema import ChatCompletionRequest
from appliance.api.structured_output import constraint_of
from appliance.api.tool_choice import asked_tools
from appliance.errors import RequestError

FORMAT = {"type": "json_schema", "schema": {"type": "object", "properties": {"schema": {"type": "integer"}}}}


def chat(*messages: Any, **fields: Any) -> ChatCompletionRequest:
    turns = [{"role": "user", "content": message} if isinstance(message, str) else message for message in messages]
    body = {"model": "m", "max_tokens": 5, "messages": turns or [{"role": "user", "content": "x"}], **fields}
    return chat_of(_decode(body))


def _decode(body: Any) -> MessagesRequest:
    return msgspec.json.decode(json.dumps(body), type=MessagesRequest)


def turns(*messages: Any, **fields: Any) -> list[tuple[str, str]]:
    """Role and text, as the template gets them."""
    body = chat(*messages, **fields)
    return [(message.role, message.content) for message in chat_prompt(body, asked_tools(body)).messages]


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {**user(*blocks), "role": "assistant"}


def result(content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": content, **fields}


def test_texts_and_blocks() -> None:
    assert turns("x") == [("user", "x")]
    assert turns(user("a", "b")) == [("user", "a\nb")]
    assert turns("x", system="s") == [("system", "s"), ("user", "x")]
    assert turns("x", system=[{"type": "text", "text": "s"}, {"type": "text", "text": "t"}])[0] == ("system", "s\nt")
    assert turns("x", system="") == turns("x", system=[]) == [("user", "x")]


def test_neighbours_of_one_role_are_one_turn() -> None:
    assert turns("a", "b", assistant("c"), assistant("d"), "e") == [
        ("user", "a\nb"),
        ("assistant", "c\nd"),
        ("user", "e"),
    ]
    system = {"role": "system", "content": "s"}
    assert turns("a", system, system, "b") == [("user", "a"), ("system", "s"), ("system", "s"), ("user", "b")]


def test_results_are_turns_of_their_own_in_their_order() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}
    found = turns("x", assistant("y", call, call), user(result("1"), result([{"type": "text", "text": "2"}]), "then"))
    assert found == [("user", "x"), ("assistant", "y"), ("tool", "1"), ("tool", "2"), ("user", "then")]
    assert turns(user(result("bad", is_error=True))) == [("tool", "Error:\nbad")]
    assert turns(user({"type": "tool_result", "tool_use_id": "t"})) == [("tool", "")]
    assert turns(user("before", result("1"))) == [("user", "before"), ("tool", "1")]


def test_calls_and_thoughts_of_the_assistant() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    message = chat("x", assistant(thought, hidden, "y", call), "z").messages[1]
    assert message.reasoning_content == "hm"
    assert message.tool_calls is not None
    assert (message.tool_calls[0].id, message.tool_calls[0].function.name) == ("t", "f")
    assert json.loads(message.tool_calls[0].function.arguments) == {"a": [1]}


def test_tools_and_their_choice() -> None:
    tools = [{"name": "f", "input_schema": {"type": "object"}, "strict": True, "cache_control": {"type": "ephemeral"}}]
    body = chat(tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    function = {"name": "f", "description": "", "parameters": {"type": "object"}, "strict": True}
    assert asked_tools(body).tools == ({"type": "function", "function": function},)
    assert (body.tool_choice, body.parallel_tool_calls) == ("auto", False)
    assert chat(tools=tools, tool_choice={"type": "any"}).tool_choice == "required"
    assert chat(tools=tools, tool_choice={"type": "none"}).tool_choice == "none"
    named = chat(tools=tools, tool_choice={"type": "tool", "name": "f"}).tool_choice
    assert named == {"type": "function", "function": {"name": "f"}}


def test_thinking_and_effort() -> None:
    body = chat(thinking={"type": "enabled", "budget_tokens": 1024}, output_config={"effort": "high", "format": None})
    assert (body.thinking.type, body.thinking.budget_tokens) == ("enabled", 1024)  # type: ignore[union-attr]
    assert body.reasoning_effort == "high"


@pytest.mark.parametrize("value", [b'{"a":"\xff"}', b'{"\xff":1}', b'{"a":"\\ud800"}', b"[]", b"1", b"null"])
def test_what_is_passed_on_is_json_to_its_end(value: bytes) -> None:
    use = b'{"role":"assistant","content":[{"type":"tool_use","name":"f","input":%s}]},{"role":"user","content":"x"}'
    tool = b'{"name":"f","input_schema":%s}'
    for messages, tools in ((use % value, b""), (b'{"role":"user","content":"x"}', tool % value)):
        body = b'{"model":"m","max_tokens":5,"messages":[%s],"tools":[%s]}' % (messages, tools)
        with pytest.raises((RequestError, msgspec.DecodeError)):
            chat_of(msgspec.json.decode(body, type=MessagesRequest))


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"messages": [user({"type": "image", "source": {}})]}, "messages[0].content[0]", "only text"),
        ({"messages": [user("x"), user("y", {"type": "document"})]}, "messages[1].content[1]", "document"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0]", "without text"),
        ({"messages": [user(result([{"type": "image"}]))]}, "messages[0].content[0].content[0]", "image"),
        ({"messages": [user({"type": "tool_result", "content": "x"})]}, "messages[0].content[0].tool_use_id", "needed"),
        ({"messages": [user({"type": "tool_use", "name": "f"})]}, "messages[0].content[0]", "tool_use"),
        (
            {"messages": [assistant({"type": "tool_use", "name": "f"}), user("x")]},
            "messages[0].content[0].input",
            "object",
        ),
        (
            {"messages": [assistant({"type": "tool_use", "input": {}}), user("x")]},
            "messages[0].content[0].name",
            "needed",
        ),
        ({"messages": [user("x"), assistant("y")]}, "messages", "end with a user turn"),
        (
            {"messages": [{"role": "system", "content": [result("x")]}, user("x")]},
            "messages[0].content[0]",
            "tool_result",
        ),
        ({"system": [{"type": "image"}]}, "system[0]", "image"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]", "web_search_20250305"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "JSON object"),
        ({"tools": [{"name": "f", "input_schema": [1]}]}, "tools[0].input_schema", "JSON object"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "needed"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "needed"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": [1]}}},
            "output_config.format.schema",
            "JSON object",
        ),
        ({"output_config": {"format": FORMAT}, "output_format": FORMAT}, "output_format", "one of them"),
    ],
)
def test_what_cannot_be_said_is_refused(fields: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(RequestError, match=says) as refused:
        chat_of(_decode({"model": "m", "max_tokens": 5, "messages": [user("x")], **fields}))
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize("fields", [{"output_config": {"format": FORMAT}}, {"output_format": FORMAT}])
def test_what_the_answer_must_be(fields: dict[str, Any]) -> None:
    constraint = constraint_of(chat("x", **fields))
    assert constraint is not None
    assert (constraint.kind, json.loads(constraint.text)) == ("json_schema", FORMAT["schema"])
    assert NAMES.of(constraint.param) == "output_config.format.schema"
