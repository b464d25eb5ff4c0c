"""A Responses request in a chat's words, and what is refused of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.responses_input import NAMES, Asks, asks, turns
from appliance.api.responses_schema import (
    FunctionCallItem,
    FunctionOutputItem,
    InputText,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponsesRequest,
)
from appliance.api.tool_choice import asked_tools
from appliance.errors import RequestError

FUNCTION = {"type": "function", "name": "now", "description": "d", "parameters": {"type": "object"}, "strict": True}


def asked(before: tuple[Item, ...] = (), **fields: Any) -> Asks:
    raw = msgspec.json.encode({"model": "demo", "input": "x", **fields})
    return asks(raw, msgspec.json.decode(raw, type=ResponsesRequest), before, lambda prefix: f"{prefix}_new")


def test_a_text_is_a_user_s_turn() -> None:
    found = asked()
    assert found.items == (MessageItem(id="msg_new", role="user", content=(InputText("x"),)),)
    assert [(turn.role, turn.content) for turn in found.chat.messages] == [("user", "x")]
    assert (found.tool_choice, found.format) == ("auto", {"type": "text"})


def test_instructions_come_first_and_what_was_said_before_next() -> None:
    before = (MessageItem(id="m", role="assistant", content=(OutputText("before"),)),)
    found = asked(before, instructions="Be kind.")
    assert [turn.content for turn in found.chat.messages] == ["Be kind.", "before", "x"]
    assert found.items[0] == before[0]


def test_tools_are_nested_as_chats_have_them() -> None:
    found = asked(tools=[FUNCTION], tool_choice={"type": "function", "name": "now"}, parallel_tool_calls=False)
    nested = {name: value for name, value in FUNCTION.items() if name != "type"}
    assert msgspec.json.decode(found.chat.tools) == [{"type": "function", "function": nested}]
    assert found.chat.tool_choice == {"type": "function", "function": {"type": "function", "name": "now"}}
    assert found.chat.parallel_tool_calls is False
    assert (found.tools, found.tool_choice) == ((FUNCTION,), {"type": "function", "name": "now"})


def test_formats() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert asked(text={"format": {"type": "text"}, "verbosity": "low"}).chat.response_format is None
    assert asked(text={"format": {"type": "json_object"}}).chat.response_format is not None
    found = asked(text={"format": schema})
    assert found.format == schema
    assert found.chat.response_format is not None
    assert found.chat.response_format.type == "json_schema"


def test_what_goes_on_as_it_is() -> None:
    found = asked(temperature=0.5, min_p=0.25, stop=["a"], seed=7, priority=3, chat_template_kwargs={"a": 1}, n=5)
    chat: Any = found.chat
    assert (chat.temperature, chat.min_p, chat.stop, chat.seed, chat.priority) == (0.5, 0.25, ["a"], 7, 3)
    assert bytes(chat.chat_template_kwargs) == b'{"a":1}'
    assert chat.n is None


def test_reasoning_and_who_asks() -> None:
    assert asked(reasoning={"effort": "low", "summary": "auto"}).chat.reasoning_effort == "low"
    assert asked(safety_identifier="a").chat.user == "a"
    assert asked(safety_identifier="a", user="b").chat.user == "b"


def test_log_probabilities() -> None:
    assert asked().chat.logprobs is False
    assert asked(include=["message.output_text.logprobs"]).chat.logprobs
    found = asked(top_logprobs=3).chat
    assert (found.logprobs, found.top_logprobs) == (True, 3)


def test_turns_of_an_assistant() -> None:
    thought = ReasoningItem(id="r", content=(ReasoningText("a"), ReasoningText("b")))
    said = MessageItem(id="m", role="assistant", content=(OutputText("c"),))
    call = FunctionCallItem(id="f", call_id="1", name="now", arguments="{}")
    told = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    result = FunctionOutputItem(id="o", call_id="1", output="noon")
    one = {"role": "assistant", "reasoning_content": "a\nb", "content": "c", "tool_calls": [told, told]}
    assert turns(None, [thought, said, call, call]) == [one]
    assert turns(None, [call, said]) == [
        {"role": "assistant", "tool_calls": [told]},
        {"role": "assistant", "content": "c"},
    ]
    assert len(turns(None, [said, said])) == 2
    assert [turn["role"] for turn in turns(None, [thought, call, result, thought, said])] == [
        "assistant",
        "tool",
        "assistant",
    ]
    assert turns(None, [thought]) == []
    assert turns(None, [thought, thought, said]) == [{"role": "assistant", "reasoning_content": "a\nb", "content": "c"}]


def test_a_refusal_of_the_model_s_is_text() -> None:
    found = asked(input=[{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}])
    assert found.chat.messages[0].content == "no"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": None}, "invalid_request", "input"),
        ({"input": []}, "invalid_request", "input"),
        ({"input": [{"content": "x"}]}, "invalid_request", "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_request", "input[0].role"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "invalid_request", "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "x"}]}, "invalid_request", "input[0].name"),
        ({"input": [{"type": "function_call_output", "call_id": "x"}]}, "invalid_request", "input[0].output"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "unsupported_parameter", "input[0]"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "unsupported_parameter", "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "invalid_request",
            "input[0].content[0]",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "x", "output": [{"type": "input_file"}]}]},
            "invalid_request",
            "input[0].output[0]",
        ),
        ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0]"),
        ({"tools": [{"type": "function"}]}, "invalid_request", "tools[0].name"),
        ({"tools": ["x"]}, "invalid_request", "tools[0]"),
        ({"tool_choice": "any"}, "invalid_request", "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "invalid_request", "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "invalid_request", "text.format"),
        ({"background": True}, "unsupported_parameter", "background"),
        ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
        ({"prompt": {"id": "x"}}, "unsupported_parameter", "prompt"),
        ({"moderation": {"model": "x"}}, "unsupported_parameter", "moderation"),
        ({"temperature": 3}, "invalid_request", "temperature"),
    ],
)
def test_refusals(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(RequestError) as refused:
        asked(**fields)
    assert (refused.value.code, refused.value.param, refused.value.status) == (code, param, 400)


def test_fields_go_by_the_names_that_the_client_wrote() -> None:
    assert NAMES.of("response_format.json_schema.schema.not") == "text.format.schema.not"
    assert NAMES.of("response_format.type") == "text.format.type"
    assert NAMES.of("messages[1].content[0]") == "input[1].content[0]"
    assert NAMES.of("tool_choice.allowed_tools") == NAMES.of("tool_choice") == "tool_choice"


def test_some_of_the_tools() -> None:
    tools = [FUNCTION, {"type": "function", "name": "then"}]
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "then"}]}
    found = asked(tools=tools, tool_choice=allowed)
    assert found.tool_choice == allowed
    read = asked_tools(found.chat)
    assert (read.choice, read.only, len(read.rendered)) == ("auto", ("then",), 2)
    with pytest.raises(RequestError) as refused:
        asked_tools(asked(tools=tools, tool_choice={**allowed, "tools": []}).chat)
    assert NAMES.error(refused.value).param == "tool_choice"
