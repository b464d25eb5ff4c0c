"""Every error code as clients meet it: status, type, shape and headers, on OpenAI's paths and on Anthropic's, and in
the document.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, get_args

import jsonschema

from appliance.api.app import api_routes
from appliance.api.openapi import ApiDocument
from appliance.errors import CODES, ErrorCode
from tests.api.conftest import Api

RETRIED: Final = (429, 503, 504)
DOCUMENT: Final = ApiDocument(api_routes()).content
# What is wrong -> the field that is to blame.
AT_FAULT: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("chat/completions", {"messages": []}, "messages"),
    ("chat/completions", {"temperature": 3}, "temperature"),
    ("chat/completions", {"tools": [{"type": "function"}]}, "tools[0]"),
    ("chat/completions", {"tools": 1}, "tools"),
    ("chat/completions", {"functions": 1, "tools": []}, "functions"),
    ("chat/completions", {"response_format": {"type": "yaml"}}, "response_format.type"),
    ("chat/completions", {"keep_alive": "soon"}, "keep_alive"),
    ("chat/completions", {"model": "none"}, "model"),
    ("completions", {"prompt": []}, "prompt"),
    ("completions", {"prompt": ["a", 1]}, "prompt"),
    ("completions", {"prompt": "a", "n": 2, "best_of": 1}, "best_of"),
    ("embeddings", {"input": []}, "input"),
    ("embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
    ("rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
    ("responses", {}, "input"),
    ("responses", {"input": "a", "background": True}, "background"),
    ("messages", {"max_tokens": -1}, "max_tokens"),
    (
        "messages",
        {"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "image"}]}]},
        "messages[0].content[0]",
    ),
    ("tokenize", {}, "content"),
    ("detokenize", {"tokens": [-1]}, "tokens[0]"),
]
CHATS: Final = ("chat/completions", "messages")


def schema_of(path: str, status: int) -> dict[str, Any]:
    """What the document says of a JSON answer."""
    answers = DOCUMENT["paths"][f"/{path}"]["post"]["responses"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    return {**schema, "components": DOCUMENT["components"]}


def check(path: str, status: int, body: Any) -> dict[str, Any]:
    """(code, message, param) of an error in the shape of its path."""
    jsonschema.validate(body, schema_of(path, status), cls=jsonschema.Draft202012Validator)
    error = body["error"]
    if path.startswith("messages"):
        assert body["type"] == "error"
        details = error["details"]
        return {"code": details["error_code"], "message": error["message"], "param": details.get("param")}
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["type"] == CODES[error["code"]][1]
    return {name: error[name] for name in ("code", "message", "param")}


async def test_every_code_has_its_status_and_its_shape(api: Api) -> None:
    for code, path in itertools.product(get_args(ErrorCode), CHATS):
        turn = {"role": "user", "content": f"started fail:{code}"}
        body = {"model": "demo", "messages": [turn], "max_tokens": 1}
        async with api.session.post(f"/v1/{path}", json=body) as answer:
            assert answer.status == CODES[code][0]
            # 405 is of no route, so that the document has no schema of it.
            error = check(path, answer.status if answer.status != 405 else 404, await answer.json())
            assert (error["code"], bool(error["message"])) == (code, True)
            assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)
        # Many failures in a row would close the model.
        assert (await api.chat("say:x")).status == 200


async def test_a_field_that_is_to_blame_is_named(api: Api) -> None:
    for path, fields, param in AT_FAULT:
        turns = {"messages": [{"role": "user", "content": "say:x"}]} if path in CHATS else {}
        async with api.session.post(f"/v1/{path}", json={"model": "demo", **turns, **fields}) as answer:
            error = check(path, answer.status, await answer.json())
        assert (error["param"], param in error["message"]) == (param, True), (path, fields, error)


def test_every_code_is_in_the_document() -> None:
    documented = {code for route in api_routes() for code in route.operation.errors}
    # These are of no route.
    assert set(get_args(ErrorCode)) - documented == {"route_not_found", "method_not_allowed"}
    for route in api_routes():
        path = route.path.removeprefix("/v1").replace("{model:.+}", "{model}")
        item = DOCUMENT["paths"].get(path) or DOCUMENT["paths"][route.path]
        answers = item[route.method.lower()]["responses"]
        for code in route.operation.errors:
            status = str(CODES[code][0])
            assert code in answers[status]["description"], (path, code)
            assert ("Retry-After" in answers[status]["headers"]) == (int(status) in RETRIED)


async def test_what_is_no_route_and_what_is_no_method(api: Api) -> None:
    for path in ("/v1/nowhere", "/v1/messages/nowhere"):
        async with api.session.post(path) as answer:
            assert answer.status == 404
            assert "the API's routes start with /v1" in (await answer.json())["error"]["message"]
    for path in CHATS:
        async with api.session.put(f"/v1/{path}") as answer:
            assert answer.status == 405
            assert "allowed: POST" in (await answer.json())["error"]["message"]
