"""What differs between families of clients whatever the endpoint: errors, pings, and the headers of key and request id.

A request's path alone decides, so that it stands before anything of the request is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from appliance.api.anthropic_schema import ErrorOut
from appliance.api.envelope import anthropic_error, error_body
from appliance.api.openai_schema import ErrorBody
from appliance.api.sse import NAMED_PING, PING
from appliance.errors import RequestError

_KEY_HEADER: Final = "X-Api-Key"


class Dialect(Struct, frozen=True, kw_only=True):
    """error: what errors are; error_body: one and the request's id as JSON.

    ping: a block of a stream that says nothing. id_headers: what carries the request's id.
    key_header: see `shown_keys`.
    """

    error: type[Struct]
    error_body: Callable[[RequestError, str], bytes]
    ping: bytes
    id_headers: tuple[str, ...] = ("X-Request-Id",)
    key_header: str | None = None


OPENAI: Final = Dialect(error=ErrorBody, error_body=lambda error, request_id: error_body(error), ping=PING)
ANTHROPIC: Final = Dialect(
    error=ErrorOut,
    error_body=lambda error, request_id: msgspec.json.encode(anthropic_error(error, request_id)),
    ping=NAMED_PING,
    id_headers=("X-Request-Id", "request-id"),
    key_header=_KEY_HEADER,
)


def dialect_of(http: web.BaseRequest) -> Dialect:
    """Of whoever calls this path, whether it is a route or not."""
    return dialect_of_path(http.path)


def dialect_of_path(path: str) -> Dialect:
    """See `dialect_of`."""
    path = path.removeprefix("/v1")
    return ANTHROPIC if path == "/messages" or path.startswith("/messages/") else OPENAI


def shown_keys(http: web.BaseRequest) -> list[str]:
    """What the request shows, as values of Authorization headers; more than one is for the doorkeeper to refuse.

    A key in the dialect's own header is one more, unless it is the one that is there already: some clients send it both
    ways. An empty one is none.
    """
    shown = http.headers.getall("Authorization", [])
    header = dialect_of(http).key_header
    keys = [] if header is None else [key.strip() for key in http.headers.getall(header, []) if key.strip()]
    return shown + [f"Bearer {key}" for key in keys if len(keys) > 1 or key not in map(_token, shown)]


def _token(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
