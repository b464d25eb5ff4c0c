"""Every shape in which clients say what an answer must be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.api.openai_schema import ChatCompletionRequest
from appliance.api.structured_output import constraint_of
from appliance.errors import RequestError
from appliance.types import Constraint

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def read(fields: dict[str, Any]) -> Constraint | None:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})
    return constraint_of(msgspec.json.decode(body, type=ChatCompletionRequest))


def format_of(**fields: Any) -> dict[str, Any]:
    return {"response_format": fields}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            format_of(type="json_schema", json_schema={"name": "n", "schema": SCHEMA, "strict": True}),
            "response_format.json_schema.schema",
        ),
        (
            format_of(type="json_schema", json_schema={"schema": SCHEMA, "name": "llm_response"}),
            "response_format.json_schema.schema",
        ),
        (format_of(type="json_schema", json_schema=SCHEMA), "response_format.json_schema"),
        (
            format_of(type="json_schema", json_schema=msgspec.json.encode(SCHEMA).decode()),
            "response_format.json_schema",
        ),
        (format_of(type="json_schema", schema=SCHEMA), "response_format.schema"),
        (format_of(type="json_object", schema=SCHEMA), "response_format.schema"),
        ({"json_schema": SCHEMA}, "json_schema"),
        ({"guided_json": SCHEMA}, "guided_json"),
        ({"guided_json": msgspec.json.encode(SCHEMA).decode()}, "guided_json"),
        ({"structured_outputs": {"json": SCHEMA}}, "structured_outputs.json"),
    ],
)
def test_a_schema_arrives_in_every_shape(fields: dict[str, Any], param: str) -> None:
    constraint = read(fields)
    assert constraint is not None
    assert (constraint.kind, constraint.param) == ("json_schema", param)
    assert msgspec.json.decode(constraint.text) == SCHEMA


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        (format_of(type="json_object"), "json_schema", '{"type":"object"}'),
        ({"structured_outputs": {"json_object": True}}, "json_schema", '{"type":"object"}'),
        ({"grammar": 'root ::= "a"'}, "grammar", 'root ::= "a"'),
        ({"guided_grammar": 'root ::= "a"'}, "grammar", 'root ::= "a"'),
        ({"regex": "a+"}, "regex", "a+"),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
        ({"choice": ["é", "b"]}, "choice", '["é","b"]'),
        ({"guided_choice": ["a"]}, "choice", '["a"]'),
        ({"structured_outputs": {"choice": ["a"]}}, "choice", '["a"]'),
        ({"structured_outputs": {"grammar": "start: /a/"}}, "grammar", "start: /a/"),
    ],
)
def test_other_forms(fields: dict[str, Any], kind: str, text: str) -> None:
    constraint = read(fields)
    assert constraint is not None
    assert (constraint.kind, constraint.text) == (kind, text)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        format_of(type="text"),
        {"response_format": None, "grammar": None, "guided_json": None, "choice": None},
        {"grammar": "", "regex": ""},
        {"structured_outputs": {}},
    ],
)
def test_nothing_is_asked_for(fields: dict[str, Any]) -> None:
    assert read(fields) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (format_of(type="yaml"), "response_format.type"),
        (format_of(type="json_schema"), "response_format.json_schema"),
        (format_of(type="json_schema", json_schema=None), "response_format.json_schema"),
        (format_of(type="json_schema", json_schema="{no"), "response_format.json_schema"),
        ({"regex": "a", "choice": ["a"]}, "choice"),
        (format_of(type="json_object") | {"guided_json": SCHEMA}, "guided_json"),
        ({"structured_outputs": {"regex": "a", "json_object": True}}, "structured_outputs.json_object"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(fields)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_a_property_named_schema_does_not_unwrap_a_bare_schema() -> None:
    bare = {"type": "object", "properties": {"schema": {"type": "string"}}}
    constraint = read(format_of(type="json_schema", json_schema=bare))
    assert constraint is not None and msgspec.json.decode(constraint.text) == bare
