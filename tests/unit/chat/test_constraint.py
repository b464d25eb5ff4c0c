"""Grammars of calls: llguidance takes them, and what they let through is read as calls."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from appliance.chat import Call, Tools, answer_parser, parts_of
from appliance.chat.constraint import forced_calls
from appliance.types import AnswerFormat, ToolFormat

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/city"}},
            "required": ["city"],
            "$defs": {"city": {"type": "string"}},
        },
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now"}}


def test_one_named_call() -> None:
    made = forced_calls("hermes", [WEATHER, NOW], only=("now",), parallel=False, tokens={"<tool_call>": 7})
    assert made.tools == "hermes"
    assert made.markers == ("<tool_call>", "</tool_call>")
    assert made.grammar.splitlines() == [
        "start: call",
        "call: call0",
        'call0: <[7]> "\\n" value0 "\\n</tool_call>"',
        'value0: %json {"type": "object", "properties": {"name": {"const": "now"}, "arguments": {"type": "object"}}, '
        '"required": ["name", "arguments"], "additionalProperties": false}',
    ]


def test_one_call_or_more() -> None:
    made = forced_calls("mistral", [WEATHER, NOW], only=(), parallel=True, tokens={})
    assert made.grammar.startswith('start: "[TOOL_CALLS][" call (", " call)* "]"\ncall: call0 | call1\n')
    # References count from the root, which is another one now.
    assert '"$defs": {"city": {"type": "string"}}}' in made.grammar


@pytest.mark.parametrize("wanted", get_args(ToolFormat))
def test_what_a_grammar_lets_through_is_read(wanted: ToolFormat) -> None:
    made = forced_calls(wanted, [NOW], only=("now",), parallel=False, tokens={})
    rules = dict(line.split(": ", 1) for line in made.grammar.splitlines())
    fields = "parameters" if "parameters" in rules["value0"] else "arguments"
    rules["value0"] = json.dumps(f'{{"name": "now", "{fields}": {{}}}}' if '"name"' in rules["value0"] else "{}")

    def text_of(rule: str) -> str:
        terms = re.findall(r'"(?:[^"\\]|\\.)*"|\w+', rules[rule])
        return "".join(json.loads(term) if term.startswith('"') else text_of(term) for term in terms)

    parser = answer_parser(AnswerFormat(tools=made.tools), Tools([NOW]))
    assert parts_of(parser, text_of("start")) == [Call("now", "{}")]


@pytest.mark.parametrize("wanted", get_args(ToolFormat))
def test_llguidance_takes_every_grammar(wanted: ToolFormat) -> None:
    llguidance = pytest.importorskip("llguidance")
    for only, parallel in (((), True), (("now",), False)):
        made = forced_calls(wanted, [WEATHER, NOW], only=only, parallel=parallel, tokens={})
        grammar = llguidance.LLMatcher.grammar_from_lark(made.grammar)
        error = llguidance.LLMatcher.validate_grammar(grammar)
        assert not error, made.grammar
