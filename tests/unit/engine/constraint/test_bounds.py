"""What is refused before it costs anything."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.engine.constraint.bounds import check_pattern, check_schema, place_of, unrolled
from appliance.errors import RequestError


def nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (nested(70), "s"),
        ({"multipleOf": 16_385}, "s.multipleOf"),
        ({"allOf": [{"multipleOf": 97}, {"multipleOf": 89}, {"multipleOf": 83}]}, "s.allOf[2].multipleOf"),
        ({"anyOf": [{"multipleOf": 1e-30}, {"multipleOf": 7}]}, "s.anyOf[0].multipleOf"),
        ({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}, "s.properties.a.pattern"),
        ({"patternProperties": {"x" * 5000: {}}}, "s.patternProperties"),
        ({"anyOf": [{"patternProperties": {f"^{n}": {} for n in range(70)}}] * 2}, "s.anyOf[1].patternProperties"),
        ({"$defs": {"a": {"x-guidance": {"lenient": True}}}}, "s.$defs.a"),
    ],
)
def test_a_schema_that_costs_too_much_is_refused_by_its_place(schema: Any, place: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_schema(schema, "s")
    assert caught.value.param == place


@pytest.mark.parametrize(
    "schema",
    [
        True,
        nested(60),
        {"multipleOf": 0.01, "allOf": [{"multipleOf": 5}, {"multipleOf": 0}, {"multipleOf": "x"}]},
        {"pattern": "^[a-z]{1,5000}$", "enum": [list(range(100))]},
        {"properties": {"pattern": {"type": "string"}, "multipleOf": {"type": "integer"}}},
    ],
)
def test_what_clients_really_send_passes(schema: Any) -> None:
    check_schema(schema, "s")


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("abc", 3),
        ("a{10}", 10),
        ("a{2,10}b", 11),
        ("a{3,}", 3),
        ("(ab){10}", 30),
        ("((a{10}){10}){10}", 1110),
        (r"\{{5}[{}]{4}", 9),
        ("a{x}", 4),
        ("( a {10} ) {10}", 140),
        ("a{1000}{1000}", 1_000_000),
        ("(((", 3),
        (")))", 3),
        ("[", 1),
        ("\\", 1),
        ("a*{5}", 2),
    ],
)
def test_repetitions_are_written_out(pattern: str, size: int) -> None:
    assert unrolled(pattern) == pytest.approx(size, abs=12 if " " in pattern else 3)


@pytest.mark.parametrize("pattern", ["a" * 5000, "(a{200}){200}", "(" * 4000 + "a{99999}"], ids=len)
def test_patterns_are_bounded(pattern: str) -> None:
    with pytest.raises(RequestError):
        check_pattern(pattern, "regex")


def test_a_keyword_is_found() -> None:
    assert place_of({"items": [{"a": {"not": {}}}]}, "not", "s") == "s.items[0].a.not"
    assert place_of({}, "not", "s") == "s"
