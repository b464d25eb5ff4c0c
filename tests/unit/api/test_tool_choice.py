"""Which tools a request has, and whether its answer must call one of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.openai_schema import ChatCompletionRequest
from appliance.api.tool_choice import AskedTools, asked_tools
from appliance.errors import RequestError
from appliance.types import CallChoice, Constraint

TOOLS = [{"type": "function", "function": {"name": name}} for name in "fg"]
FUNCTIONS = [tool["function"] for tool in TOOLS]
NAMED = {"type": "function", "function": {"name": "g"}}


def allowed(mode: Any, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def read(**fields: Any) -> AskedTools:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})
    return asked_tools(msgspec.json.decode(body, type=ChatCompletionRequest))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"tools": TOOLS}, None),
        ({"tools": TOOLS, "tool_choice": "auto"}, None),
        ({"tools": TOOLS, "tool_choice": "none"}, None),
        ({"tools": TOOLS, "tool_choice": "required"}, CallChoice()),
        ({"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}, CallChoice(parallel=False)),
        ({"tools": TOOLS, "tool_choice": NAMED}, CallChoice(only=("g",))),
        ({"functions": FUNCTIONS, "function_call": "auto"}, None),
        (
            {"functions": FUNCTIONS, "function_call": {"name": "f"}},
            CallChoice(only=("f",), parallel=False, param="function_call"),
        ),
    ],
)
def test_when_an_answer_must_be_calls(fields: dict[str, Any], wanted: CallChoice | None) -> None:
    assert read(**fields).must_call(None) == wanted


def test_the_model_sees_all_tools_whichever_it_must_call() -> None:
    asked = read(tools=TOOLS, tool_choice=NAMED)
    assert asked.rendered == tuple(TOOLS)
    called = asked.wanted(reasoning=True).tools
    assert "g" in called and "f" not in called


def test_an_answer_is_kept_to_one_thing() -> None:
    constraint = Constraint(kind="regex", text="a", param="regex")
    assert read(tools=TOOLS).must_call(constraint) is None
    with pytest.raises(RequestError, match="tool_choice, regex") as refused:
        read(tools=TOOLS, tool_choice="required").must_call(constraint)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "regex")


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"name": "h"}},
        {"tools": TOOLS, "tool_choice": allowed("auto", NAMED, {"function": {"name": "h"}})},
    ],
)
def test_a_choice_that_nothing_can_satisfy_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        read(**fields)
    assert refused.value.param == "tool_choice"


def test_some_of_the_tools_are_allowed_and_all_are_shown() -> None:
    asked = read(tools=TOOLS, tool_choice=allowed("auto", NAMED))
    assert (asked.rendered, asked.must_call(None)) == (tuple(TOOLS), None)
    called = asked.wanted(reasoning=True).tools
    assert "g" in called and "f" not in called
    both = allowed("required", NAMED, {"type": "function", "name": "f"}, NAMED)
    assert read(tools=TOOLS, tool_choice=both).must_call(None) == CallChoice(only=("g", "f"))


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "allowed_tools"},
        allowed("any", NAMED),
        allowed("auto"),
        allowed("auto", {"type": "mcp", "server_label": "x"}),
        allowed("auto", NAMED, 7),
        allowed(None, NAMED),
    ],
)
def test_what_is_no_list_of_allowed_tools(choice: Any) -> None:
    with pytest.raises(RequestError) as refused:
        read(tools=TOOLS, tool_choice=choice)
    assert refused.value.param == "tool_choice.allowed_tools"
