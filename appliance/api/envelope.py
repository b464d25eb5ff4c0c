"""The one place where an error becomes an HTTP answer, in OpenAI's shape or in Anthropic's."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from appliance.api.anthropic_schema import ErrorFields, ErrorOut, ErrorType
from appliance.errors import ErrorCode, RequestError

MESSAGE_CHARS_MAX: Final = 4096
_STATUS_CODES: dict[int, ErrorCode] = {
    404: "route_not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
}


# Status -> Anthropic's error type; its clients take their exception from the status.
_ANTHROPIC_TYPES: Final[dict[int, ErrorType]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: RequestError) -> bytes:
    """OpenAI's `{"error": {message, type, param, code}}`; the same in an HTTP body and in an SSE `error` chunk."""
    fields = {"message": _message(error), "type": error.type, "param": error.param, "code": error.code}
    return msgspec.json.encode({"error": {**fields, **error.details}})


def anthropic_error(error: RequestError, request_id: str) -> ErrorOut:
    """Anthropic's shape of an error; what OpenAI's has besides is in its `details`."""
    kind = _ANTHROPIC_TYPES.get(error.status, "invalid_request_error")
    param = {} if error.param is None else {"param": error.param}
    details = {"error_code": error.code, **param, **error.details}
    return ErrorOut(ErrorFields(kind, _message(error), details), request_id)


def _message(error: RequestError) -> str:
    """It repeats little of the request."""
    return error.message if len(error.message) <= MESSAGE_CHARS_MAX else f"{error.message[:MESSAGE_CHARS_MAX]}…"


def error_response(error: RequestError, body: bytes) -> web.Response:
    """The whole HTTP answer for an error, of which `body` is the JSON."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        status=error.status, body=body, content_type="application/json", charset="utf-8", headers=headers
    )


def from_http_exception(error: web.HTTPException, http: web.Request) -> RequestError:
    """aiohttp's own refusals (no such route, wrong method, body too large) as ours."""
    code = _STATUS_CODES.get(error.status, "invalid_request" if error.status < 500 else "internal_error")
    match code:
        case "route_not_found":
            message = f"there is no {http.path[:200]!r} here; the API's routes start with /v1"
        case "method_not_allowed":
            message = f"{http.method} is not allowed here; allowed: {error.headers.get('Allow', '')}"
        case "body_too_large":
            message = "the request body is too large; send less"
        case _:
            message = HTTPStatus(error.status).phrase
    return RequestError(code, message)
