"""A request body on its way from bytes to a strict struct, and a struct as an answer's body."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from appliance.config import RequestLimits
from appliance.errors import RequestError
from appliance.validation import explain

T = TypeVar("T")
_BOM: Final = b"\xef\xbb\xbf"


async def read_body(http: web.Request, limits: RequestLimits) -> bytes:
    """The body, whole.

    Raises RequestError: body_too_large before reading where the length is announced, body_timeout for one that drips.
    """
    if any(value.lower() not in ("", "identity") for value in http.headers.getall("Content-Encoding", [])):
        raise RequestError("unsupported_media_type", "compressed request bodies are not accepted; send it as it is")
    if (http.content_length or 0) > limits.body_bytes_max:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await http.read()
    except TimeoutError:
        raise RequestError(
            "body_timeout", f"the body did not arrive within {limits.body_seconds:.0f} s; send it again, or less"
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limits) from None


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """`body` as the decoder's type.

    Raises RequestError: invalid_json for what is no JSON, invalid_request with the field's name for a wrong type or
    range.
    """
    if not body:
        raise RequestError("invalid_json", "the body is empty; send a JSON object")
    if body.startswith(_BOM):
        raise RequestError("invalid_json", "the body starts with a byte order mark; send plain UTF-8 JSON")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, place = explain(error)
        text = f"{place}: {message}" if place else f"the body is not what this route takes: {message}"
        raise RequestError("invalid_request", text, param=place or None) from error
    except msgspec.DecodeError as error:
        raise RequestError("invalid_json", f"the body is no valid JSON: {error}; send a JSON object") from error
    except RecursionError as error:
        raise RequestError("invalid_json", "the body is nested too deeply; send one of fewer levels") from error
    except UnicodeDecodeError as error:
        raise RequestError("invalid_json", "the body is not valid UTF-8; send UTF-8") from error


def _too_large(limits: RequestLimits) -> RequestError:
    message = f"the body is larger than {limits.body_bytes_max // 2**20} MiB; send less (requests.body_bytes_max)"
    return RequestError("body_too_large", message)


def json_answer(
    value: Struct | Raw, *, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
) -> web.Response:
    """The whole HTTP answer that says this."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
