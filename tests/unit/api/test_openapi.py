"""The API's document: every route, every field with its bounds, every answer."""

from __future__ import annotations

import re
from typing import Any, Final

import jsonschema
import msgspec
import pytest

from appliance.api.app import api_routes
from appliance.api.openapi import ApiDocument
from appliance.types import POOLING_INPUTS_MAX, STOP_STRINGS_MAX
from tests.api.conftest import running_api

DOCUMENT: Final = ApiDocument(api_routes()).content
SCHEMAS: Final = DOCUMENT["components"]["schemas"]


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method != "servers"
    ]


def urls() -> set[tuple[str, str]]:
    """(method, URL) of everything in the document, servers applied."""
    found = set()
    for path, method, _ in operations():
        for server in DOCUMENT["paths"][path].get("servers", DOCUMENT["servers"]):
            found.add((method.upper(), server["url"].rstrip("/") + path))
    return found


def test_it_has_every_route_and_no_other() -> None:
    routes = {(route.method, route.path.replace("{model:.+}", "{model}")) for route in api_routes()}
    assert urls() == routes


def test_every_operation_has_an_id_of_its_own_and_says_what_it_does() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", one) for one in ids)
    assert all(operation["summary"] for _, _, operation in operations())


def test_every_reference_leads_somewhere() -> None:
    for name in set(re.findall(r'"\$ref":"#/components/(\w+/[^"]+)"', msgspec.json.encode(DOCUMENT).decode())):
        kind, _, name = name.partition("/")
        assert name in DOCUMENT["components"][kind]


def test_every_schema_is_one() -> None:
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_an_example_is_what_its_handler_reads() -> None:
    for route in api_routes():
        if route.operation.body is not None:
            msgspec.convert(route.operation.example, route.operation.body)
            whole = {
                "$ref": f"#/components/schemas/{route.operation.body.__name__}",
                "components": {"schemas": SCHEMAS},
            }
            jsonschema.validate(route.operation.example, whole, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("temperature", 2, True),
        ("temperature", 2.1, False),
        ("top_logprobs", 21, False),
        ("n", 129, False),
        ("stop", ["x"] * STOP_STRINGS_MAX, True),
        ("stop", ["x"] * (STOP_STRINGS_MAX + 1), False),
        ("logit_bias", {"7": False}, True),
        ("logit_bias", {"7": True}, False),
        ("logit_bias", {"x": 1}, False),
        ("keep_alive", "1h30m", True),
        ("keep_alive", "soon", False),
        ("tools", [1], False),
        ("tools", None, True),
        ("response_format", {"type": "yaml"}, False),
        ("what_nobody_knows", 1, True),
    ],
)
def test_a_chats_bounds_are_in_it(name: str, value: object, fits: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], name: value}
    assert is_valid("ChatCompletionRequest", body) == fits


def test_inputs_are_texts_or_lists_of_tokens() -> None:
    taken: list[object] = ["a", ["a", [1, 2]], [1] * (POOLING_INPUTS_MAX + 1)]
    refused: list[object] = [[], ["a", 1], ["a"] * (POOLING_INPUTS_MAX + 1), 1]
    for value in taken:
        assert is_valid("EmbeddingRequest", {"model": "m", "input": value})
    for value in refused:
        assert not is_valid("EmbeddingRequest", {"model": "m", "input": value})


def is_valid(name: str, body: object) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(body))


def test_an_answer_has_all_of_its_fields_but_those_that_may_be_unset() -> None:
    assert set(SCHEMAS["ChatCompletion"]["required"]) == set(SCHEMAS["ChatCompletion"]["properties"]) - {"usage"}
    assert SCHEMAS["ToolUseBlock"]["required"][0] == "type"
    assert SCHEMAS["ChatDelta"]["required"] == []


async def test_it_is_served_to_who_may_list_models() -> None:
    async with running_api(preload=False) as api:
        for path in ("/openapi.json", "/v1/openapi.json"):
            async with api.session.get(path) as answer:
                assert (answer.status, answer.content_type) == (200, "application/json")
                assert await answer.json() == msgspec.json.decode(msgspec.json.encode(DOCUMENT))
            async with api.session.get(path, headers={"Authorization": "Bearer wrong"}) as answer:
                assert answer.status == 401
