"""Schemas inside of a grammar are held to our settings, and to our bounds."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("llguidance")

from appliance.engine.constraint.grammar import grammar_of
from appliance.errors import RequestError
from appliance.types import Constraint


def lark_of(text: str) -> str:
    made = grammar_of(Constraint(kind="grammar", text=text), thinking=False, special={})
    lark = json.loads(made)["grammars"][0]["lark_grammar"]
    assert isinstance(lark, str)
    return lark


def test_white_space_in_embedded_schemas_has_a_bound() -> None:
    rule, schema, rest = lark_of('start: "<" a\na: %json {"type": "object"}\nb: "x"\n').partition('{"type"')
    assert rule == 'start: "<" a\na: %json '
    settings, end = json.JSONDecoder().raw_decode(schema + rest)
    assert settings["type"] == "object" and "{0,20}" in settings["x-guidance"]["whitespace_pattern"]
    assert (schema + rest)[end:] == '\nb: "x"\n'


def test_a_schema_may_speak_of_schemas() -> None:
    lark = lark_of('start: %json {"description": "such as %json {1,20000} or start: a ::= b"}\n')
    assert lark.count("x-guidance") == 1


def test_repetitions_around_schemas_have_a_bound() -> None:
    with pytest.raises(RequestError, match="repetition"):
        lark_of('start: %json {"type": "object"} a{1,20000}\na: "x"\n')
