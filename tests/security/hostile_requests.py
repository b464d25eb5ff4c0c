"""Grammars, schemas and patterns made to exhaust or crash, and every field of every endpoint that takes one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Literal

Kind = Literal["grammar", "schema", "regex", "choice"]
# The path and the body of a request with this text in one field.
Place = Callable[[Any], tuple[str, dict[str, Any]]]

_CHAT: Final = {"model": "random", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 8}
_TEXT: Final = {"model": "random", "prompt": "abc", "max_tokens": 8}
_TOOL_CHOICE: Final = {"type": "function", "function": {"name": "f"}}


def _chat(*names: str) -> Place:
    return lambda value: ("/v1/chat/completions", _CHAT | _nested(names, value))


def _completion(*names: str) -> Place:
    return lambda value: ("/v1/completions", _TEXT | _nested(names, value))


def _nested(names: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(names):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def _format(value: Any) -> tuple[str, dict[str, Any]]:
    asked = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": value}}
    return "/v1/chat/completions", _CHAT | {"response_format": asked}


def _tools(value: Any) -> tuple[str, dict[str, Any]]:
    tool = {"type": "function", "function": {"name": "f", "parameters": value}}
    return "/v1/chat/completions", _CHAT | {"tools": [tool], "tool_choice": _TOOL_CHOICE}


def _functions(value: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", _CHAT | {
        "functions": [{"name": "f", "parameters": value}],
        "function_call": {"name": "f"},
    }


def _response(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": "random", "input": "abc", "max_output_tokens": 8, **fields}


def _response_tools(value: Any) -> tuple[str, dict[str, Any]]:
    return _response(tools=[{"type": "function", "name": "f", "parameters": value}], tool_choice="required")


def _anthropic_tools(value: Any) -> tuple[str, dict[str, Any]]:
    tool = {"name": "f", "input_schema": value}
    return "/v1/messages", _CHAT | {"tools": [tool], "tool_choice": {"type": "tool", "name": "f"}}


# Where a text of each kind can stand.
PLACES: Final[dict[Kind, dict[str, Place]]] = {
    "grammar": {
        "grammar": _chat("grammar"),
        "guided_grammar": _completion("guided_grammar"),
        "structured_outputs": _chat("structured_outputs", "grammar"),
        "grammar of a response": lambda value: _response(grammar=value),
    },
    "regex": {
        "regex": _completion("regex"),
        "guided_regex": _chat("guided_regex"),
        "structured_outputs": _completion("structured_outputs", "regex"),
        "pattern": lambda value: _format({"type": "string", "pattern": value}),
        "pattern of a tool": lambda value: _tools({"type": "object", "properties": {"a": {"pattern": value}}}),
    },
    "schema": {
        "response_format": _format,
        "json_schema": _completion("json_schema"),
        "guided_json": _chat("guided_json"),
        "structured_outputs": _completion("structured_outputs", "json"),
        "json_object": lambda value: (
            "/v1/completions",
            _TEXT | {"response_format": {"type": "json_object", "schema": value}},
        ),
        "inside of a grammar": lambda value: _chat("grammar")(f"start: %json {json.dumps(value)}"),
        "tools": _tools,
        "functions": _functions,
        "text.format": lambda value: _response(text={"format": {"type": "json_schema", "name": "n", "schema": value}}),
        "tools of a response": _response_tools,
        "tools of a message": _anthropic_tools,
    },
    "choice": {
        "choice": _chat("choice"),
        "guided_choice": _completion("guided_choice"),
        "structured_outputs": _chat("structured_outputs", "choice"),
    },
}


def _chain(length: int, link: str) -> str:
    return "\n".join(link.format(number, number + 1) for number in range(length))


def _deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def _doubling(depth: int) -> dict[str, Any]:
    """Each definition has the next one twice."""
    links = {
        f"d{number}": {"allOf": [{"anyOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2}] * 2} for number in range(depth)
    }
    return {"$defs": links | {f"d{depth}": {"type": "string"}}, "$ref": "#/$defs/d0"}


_TO_SELF: Final = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
_CYCLE: Final = {
    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    "type": "object",
    "properties": {"x": {"$ref": "#/$defs/a"}},
    "required": ["x"],
}

# All of them are refused.
HOSTILE: Final[dict[Kind, dict[str, Any]]] = {
    "grammar": {
        "60k groups": "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000,
        "30k groups": "root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000,
        "60k groups begun": "root ::= " + "(" * 60_000,
        "60k groups, Lark": "start: " + "(" * 60_000 + '"a"' + ")" * 60_000,
        "60k options, Lark": "start: " + "[" * 60_000 + '"a"' + "]" * 60_000,
        "nested stars": "root ::= " + "(" * 9000 + '"a"' + ")*" * 9000,
        "doubling rules": _chain(2500, "r{0} ::= r{1} r{1}") + '\nr2500 ::= "a"\nroot ::= r0',
        "doubling terminals": "start: T0\n" + _chain(900, "T{0}: T{1} T{1}") + '\nT900: "a"',
        "pattern": "start: /((a{100}){100}){100}/",
        "nested pattern": "start: /" + "(" * 9000 + "a" + ")" * 9000 + "/",
        "intersections": "start: T\nT: " + " & ".join(f"/.*{letter}.{{30}}/" for letter in "abcdefghijkl"),
        "terminal of itself": 'start: T\nT: T "a"',
        "file": 'start: A\n%import "/etc/shadow"\nA: "a"',
        "no rule": "\x00",
    },
    "regex": {
        "60k groups": "(" * 60_000 + "a" + ")" * 60_000,
        "2k groups": "(" * 2000 + "a" + ")" * 2000,
        "nested stars": "(" * 1300 + "a" + ")*" * 1300,
        "nested repetitions": "(a{1000}){1000}",
        "nested repetitions, spaced": "(?x)( a {1000} ) {1000}",
        "options": "(a?){3000}a{3000}",
        "classes": r"(\p{L}|\p{N}|\p{P}){5000}",
        "number": "a{99999999999999999999}",
        "look ahead": "(?=a)b",
        "back reference": r"(a)\1",
    },
    "schema": {
        "itself": _TO_SELF,
        "a cycle": _CYCLE,
        "a cycle of all": {"allOf": [{"$ref": "#"}, {"type": "object"}]},
        "doubling": _doubling(40),
        "deep": _deep(90),
        "a file": {"$ref": "file:///etc/shadow"},
        "a server": {"$ref": "http://169.254.169.254/latest/meta-data"},
        "remainders": {"type": "object", "properties": {"a": {"multipleOf": 999_983}}, "required": ["a"]},
        "patterns": {"type": "object", "patternProperties": {f"^{number}.*x$": {} for number in range(400)}},
        "large": {"type": "object", "description": "x" * 300_000},
        "product": {"allOf": [{"oneOf": [{"const": f"{i}{j}"} for j in range(8)]} for i in range(12)]},
    },
    "choice": {
        "none": [],
        "many": ["a"] * 100_000,
        "numbers": [1, 2],
    },
}
