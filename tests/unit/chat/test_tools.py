"""What a text says of calls, by the tools that there are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.chat import Call, Tools
from appliance.chat.tools import json_text, object_text

TOOLS = Tools(
    [
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {
                    "properties": {
                        "text": {"type": "string"},
                        "maybe": {"type": ["string", "null"]},
                        "count": {"type": "integer"},
                        "any": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                        "free": {},
                    }
                },
            },
        },
        {"name": "bare"},
        {"type": "retrieval"},
        {"function": "nonsense"},
    ]
)


def test_which_tools_there_are() -> None:
    assert len(TOOLS) == 2
    assert "f" in TOOLS and "bare" in TOOLS
    assert not Tools()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"a": 1.0,  "b": 2}', '{"a": 1.0,  "b": 2}'),
        ("  {}\n", "{}"),
        ("", "{}"),
        ("null", "{}"),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ('{"a": "x\ny"}', '{"a": "x\\ny"}'),
        ("[1]", None),
        ("1", None),
        ('{"a": NaN}', None),
        ('{"a": ', None),
        ("[" * 100_000, None),
    ],
)
def test_arguments(text: str, arguments: str | None) -> None:
    assert object_text(text) == arguments


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "arguments": {"count": 1}}',
        '{"name": "f", "parameters": {"count": 1}}',
        '{"type": "function", "function": {"name": "f", "arguments": {"count": 1}}}',
        '{"tool_name": "f", "parameters": {"count": 1}}',
        '{"tool_call": {"name": "f", "arguments": {"count": 1}}}',
        '{"f": {"count": 1}}',
        '[{"name": "f", "arguments": "{\\"count\\": 1}"}]',
    ],
)
def test_relatives(text: str) -> None:
    assert TOOLS.calls_in(text) == [Call("f", '{"count": 1}')]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "1", '{"name": "g"}', '[{"name": "f"}, 1]', '{"name": "f", "arguments": 1}']
)
def test_no_calls(text: str) -> None:
    assert TOOLS.calls_in(text) is None


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("text", "12", "12"),
        ("maybe", "null", None),
        ("maybe", "nullify", "nullify"),
        ("count", "12", 12),
        ("count", " 12\n", 12),
        ("count", "twelve", "twelve"),
        ("any", "12", 12),
        ("free", "12", "12"),
        ("unknown", "True", "True"),
    ],
)
def test_values_by_their_schema(key: str, text: str, value: Any) -> None:
    call = TOOLS.call_by_texts("f", [(key, text)])
    assert call is not None
    assert json.loads(call.arguments) == {key: value}


def test_half_a_pair_of_surrogates_can_be_sent() -> None:
    assert json_text("\ud800") == '"\\ud800"'
    assert json_text("é") == '"é"'
