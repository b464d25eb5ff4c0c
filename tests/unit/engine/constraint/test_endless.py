"""Which schemas no finite value can be of."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.engine.constraint.endless import is_endless


def needs(inner: Any, name: str = "a") -> dict[str, Any]:
    return {"type": "object", "properties": {name: inner}, "required": [name]}


SELF = {"$ref": "#"}
TO_A, TO_B = {"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}


@pytest.mark.parametrize(
    "schema",
    [
        SELF,
        needs(SELF),
        needs({"allOf": [{}, SELF]}),
        needs({"anyOf": [SELF, needs(SELF)]}),
        {"type": "array", "minItems": 1, "items": SELF},
        {"type": "array", "minItems": 2, "prefixItems": [{}, SELF]},
        {"$defs": {"a": TO_B, "b": TO_A}, "$ref": "#/$defs/a"},
        {"$defs": {"a": needs(TO_B), "b": needs(TO_A)}, "oneOf": [TO_A, TO_B]},
        {"$defs": {"a/b": {"$ref": "#/$defs/a~1b"}}, "$ref": "#/%24defs/a~1b"},
    ],
    ids=str,
)
def test_a_value_that_must_be_inside_of_itself_has_no_end(schema: Any) -> None:
    assert is_endless(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        needs({}),
        {"type": "object", "properties": {"children": {"type": "array", "items": SELF}}, "required": ["children"]},
        needs({"anyOf": [SELF, {"type": "null"}]}),
        {"type": ["object", "null"], "properties": {"a": SELF}, "required": ["a"]},
        {"type": "array", "minItems": 1, "prefixItems": [{}, SELF]},
        {"type": "array", "minItems": 1},
        {"$defs": {"a": needs(TO_B), "b": {"oneOf": [TO_A, {"type": "string"}]}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": TO_A}, "type": "string"},
        {"$ref": "https://example.org/other"},
        {"$ref": "#/none/7"},
        {"allOf": [{"$ref": "#/allOf/1"}, {"type": "string"}]},
    ],
    ids=str,
)
def test_what_has_a_finite_value_passes(schema: Any) -> None:
    assert not is_endless(schema)


def test_a_long_chain_of_references_is_no_work() -> None:
    links = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(1999)}
    assert not is_endless({"$defs": links | {"d1999": {}}, "$ref": "#/$defs/d0"})
