"""GET /openapi.json: the API as an OpenAPI document, made of the structs that the handlers read and write."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from appliance import __version__
from appliance.api.dialect import ANTHROPIC, OPENAI, dialect_of_path
from appliance.api.json_schema import REF, Schema, schemas
from appliance.api.keys import DOCUMENT
from appliance.api.operation import ApiRoute, Operation
from appliance.errors import CODES, ErrorCode

OPENAPI: Final = Operation(summary="This document.", answer=dict[str, Any])
PREFIX: Final = "/v1"
_JSON: Final = "application/json"
_ABOUT: Final = (
    "Every route under /v1 exists without it, too. Fields and query parameters that are not declared are ignored, and "
    "null is the same as absent. For a model that other servers serve, the fields are those servers' business. A path "
    "that is no route is a 404 `route_not_found`, a route with another method a 405 `method_not_allowed`, both in the "
    "shape of every error. What a client must show is set for each listener: a client certificate, a key, or both. "
    "Errors name the field at fault, where there is one, and say what to do."
)
_KEY: Final = {"type": "http", "scheme": "bearer", "description": "An API key, or a JSON Web Token where one is taken."}
_X_API_KEY: Final = {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key, otherwise."}
_CERTIFICATE: Final = {"type": "mutualTLS", "description": "A certificate of the appliance's client authority."}
_HEADERS: Final = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "As it was sent, else made: it is in every log."},
    "Retry-After": {"schema": {"type": "integer", "minimum": 0}, "description": "Seconds until it may be different."},
}
_PARAMETER: Final = re.compile(r"\{(\w+)(?::[^}]*)?\}")


async def openapi(http: web.Request) -> web.StreamResponse:
    """The document, which is the same for everybody."""
    document = http.app[DOCUMENT]
    # Making it takes 0.1 s.
    body = await asyncio.to_thread(lambda: document.body)
    return web.Response(body=body, content_type=_JSON, charset="utf-8")


class ApiDocument:
    """The document of these routes, made when it is first asked for."""

    def __init__(self, routes: Iterable[ApiRoute]) -> None:
        self._routes = tuple(routes)

    @cached_property
    def body(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self.content)

    @cached_property
    def content(self) -> dict[str, Any]:
        """As an object."""
        operations = list({id(route.operation): route.operation for route in self._routes}.values())
        _, read = schemas([one.body for one in operations if one.body is not None], written=False)
        kinds = list(dict.fromkeys(kind for one in operations for kind in (one.answer, one.events) if kind is not None))
        errors = [OPENAI.error, ANTHROPIC.error]
        answers, written = schemas([*kinds, *errors], written=True)
        assert not read.keys() & written.keys(), "a struct is read or written"
        return {
            "openapi": "3.1.0",
            "info": {"title": "LLM appliance", "version": __version__, "description": _ABOUT},
            "servers": [{"url": PREFIX}, {"url": "/"}],
            "security": _security(anthropic=False),
            "paths": self._paths(dict(zip([*kinds, *errors], answers, strict=True))),
            "components": {
                "schemas": read | written,
                "headers": _HEADERS,
                "securitySchemes": {"key": _KEY, "x_api_key": _X_API_KEY, "certificate": _CERTIFICATE},
            },
        }

    def _paths(self, answers: Mapping[Any, Schema]) -> dict[str, Any]:
        """Each path once; one that is there without the prefix alone says so."""
        every = {route.path for route in self._routes}
        paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for route in self._routes:
            if route.path.startswith(f"{PREFIX}/"):
                continue
            item = paths[_PARAMETER.sub(r"{\1}", route.path)]
            if PREFIX + route.path not in every:
                item["servers"] = [{"url": "/"}]
            item[route.method.lower()] = _operation(route, answers)
        return dict(paths)


def _operation(route: ApiRoute, answers: Mapping[Any, Schema]) -> dict[str, Any]:
    one = route.operation
    dialect = dialect_of_path(route.path)
    out: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", _PARAMETER.sub(r"by_\1", route.path))]),
        "summary": one.summary,
    }
    if parameters := [*_path_parameters(route.path), *_query_parameters(one.query)]:
        out["parameters"] = parameters
    if one.body is not None:
        body = {"schema": {"$ref": REF.format(name=one.body.__name__)}, "example": one.example}
        out["requestBody"] = {"required": True, "content": {_JSON: body}}
    error = answers[dialect.error]
    out["responses"] = _answers(one, answers, error) | _errors(one, error)
    if one.public:
        out["security"] = [{"certificate": []}, {}]
    elif dialect is ANTHROPIC:
        out["security"] = _security(anthropic=True)
    return out


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in _PARAMETER.findall(path)]


def _query_parameters(query: Any) -> list[dict[str, Any]]:
    if query is None:
        return []
    (fields,) = msgspec.json.schema(query)["$defs"].values()
    return [{"name": name, "in": "query", "schema": schema} for name, schema in fields["properties"].items()]


def _answers(one: Operation, answers: Mapping[Any, Schema], error: Schema) -> dict[str, Any]:
    if one.answer is None:
        return {}
    content = {_JSON: {"schema": answers[one.answer]}}
    if one.events is not None:
        content["text/event-stream"] = {"schema": _event(answers[one.events], error, done=one.done)}
    out = {"200": _response("Done.", content)}
    if one.unready:
        out["503"] = _response("Not yet, or not now.", content, retry=True)
    return out


def _event(data: Schema, error: Schema, *, done: bool) -> Schema:
    """Of each event of a stream, as it stands between empty lines."""
    text: Schema = {
        "type": "string",
        "contentMediaType": _JSON,
        "contentSchema": {"anyOf": [data, error]},
    }
    return {
        "description": "One event; with `stream: true`. The last one may be an error.",
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"anyOf": [text, {"const": "[DONE]"}]} if done else text},
        "required": ["data"],
    }


def _errors(one: Operation, schema: Schema) -> dict[str, Any]:
    codes: defaultdict[int, list[ErrorCode]] = defaultdict(list)
    for code in dict.fromkeys(one.errors):
        codes[CODES[code][0]].append(code)
    return {
        str(status): _response(
            f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes[status])}",
            {_JSON: {"schema": schema}},
            retry=status in (429, 503, 504),
        )
        for status in sorted(codes)
    }


def _response(description: str, content: dict[str, Any], *, retry: bool = False) -> dict[str, Any]:
    names = ("X-Request-Id", "Retry-After") if retry else ("X-Request-Id",)
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"description": description, "headers": headers, "content": content}


def _security(*, anthropic: bool) -> list[dict[str, list[str]]]:
    """Any one of these, as the listener's mode says."""
    keys = ("key", "x_api_key") if anthropic else ("key",)
    both: list[dict[str, list[str]]] = [{"certificate": [], key: []} for key in keys]
    alone: list[dict[str, list[str]]] = [{key: []} for key in keys]
    return [*both, {"certificate": []}, *alone]
