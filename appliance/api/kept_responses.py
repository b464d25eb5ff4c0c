"""Responses that are kept: what becomes of `store: true`, and the routes that find them again.

Only who made a response finds it; for everybody else there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from appliance.api.body import json_answer
from appliance.api.keys import EVIDENCE, RESPONSES
from appliance.api.operation import Operation
from appliance.api.responses_schema import (
    Item,
    ItemList,
    KeptResponse,
    OutputItem,
    Response,
    ResponseDeleted,
)
from appliance.errors import ErrorCode, RequestError, StateError
from appliance.responses.store import ResponseStore
from appliance.validation import explain

_log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 60
PAGE_MAX: Final = 100
_encoder: Final = msgspec.json.Encoder()
_kept: Final = msgspec.json.Decoder(KeptResponse)
_items: Final = msgspec.json.Decoder(tuple[Item, ...])


class _Output(Struct, frozen=True):
    output: tuple[OutputItem, ...]


class _Asked(Struct, frozen=True, kw_only=True):
    """A query. stream: a kept response comes as a whole."""

    stream: Literal["false"] = "false"


class _Page(Struct, frozen=True, kw_only=True):
    """A query. after: an item's id."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


_output: Final = msgspec.json.Decoder(_Output)

_CODES: Final[tuple[ErrorCode, ...]] = ("unsupported_parameter", "response_not_found", "store_unavailable")
GET_RESPONSE: Final = Operation(summary="A response as it was answered.", answer=Response, query=_Asked, codes=_CODES)
DELETE_RESPONSE: Final = Operation(summary="Forgets a response.", answer=ResponseDeleted, codes=_CODES)
LIST_INPUT_ITEMS: Final = Operation(
    summary="What a response answered, a page at a time.", answer=ItemList, query=_Page, codes=_CODES
)
CANCEL_RESPONSE: Final = Operation(
    summary="Refused with a 400: nothing is made in the background.", answer=None, codes=_CODES
)

# ── for a request to be answered ──────────────────────────────────────────────────────────────────────────────────────


def check_keeping(http: web.Request) -> ResponseStore:
    """Where responses are kept. Raises RequestError where this one will not be."""
    store = http.app[RESPONSES]
    if store is None or not store.settings.enabled:
        message = "store: this appliance keeps no responses (responses.enabled in appliance.yaml); leave it out"
        raise RequestError("unsupported_parameter", message, param="store")
    if not store.has_room:
        raise _unavailable()
    return store


def encoded_items(http: web.Request, items: Sequence[Item]) -> Raw:
    """The input as it is kept. Raises RequestError for one that is too large."""
    encoded, bytes_max = _encoder.encode(items), check_keeping(http).settings.bytes_max
    if len(encoded) > bytes_max:
        message = f"store: the input takes more than the {bytes_max // 1024} KiB that are kept of one; leave it out"
        raise RequestError("invalid_request", message, param="store")
    return Raw(encoded)


async def keep(http: web.Request, response: Response, items: Raw) -> None:
    """Keeps a response that is whole. Raises RequestError where that fails."""
    content = _encoder.encode(KeptResponse(items=items, response=Raw(_encoder.encode(response))))
    try:
        await check_keeping(http).put(_principal(http), response.id, content)
    except (OSError, StateError) as error:
        raise _unavailable(error) from error


async def conversation(http: web.Request, asked: str) -> tuple[Item, ...]:
    """What a response answered, and its answer. Raises RequestError."""
    found = await _find(http, asked, param="previous_response_id")
    return (*_items.decode(found.items), *_output.decode(found.response).output)


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def get_response(http: web.Request) -> web.StreamResponse:
    """A response as it was answered."""
    if http.query.get("stream", "false") != "false":
        raise RequestError(
            "unsupported_parameter", "stream: a kept response comes as a whole; leave it out", param="stream"
        )
    return json_answer((await _find(http, http.match_info["id"])).response)


async def delete_response(http: web.Request) -> web.StreamResponse:
    """Forgets a response. What went on from it has its own copy of the conversation."""
    asked, store = http.match_info["id"], http.app[RESPONSES]
    try:
        gone = store is not None and await store.delete(_principal(http), asked)
    except OSError as error:
        raise _unavailable(error) from error
    if not gone:
        raise _not_found(asked)
    return json_answer(ResponseDeleted(id=asked))


async def list_input_items(http: web.Request) -> web.StreamResponse:
    """What a response answered, the conversation before it included, a page at a time."""
    try:
        page = msgspec.convert(dict(http.query), _Page, strict=False)
    except msgspec.ValidationError as error:
        message, place = explain(error, _Page)
        raise RequestError("invalid_request", f"{place}: {message}", param=place) from error
    items = _items.decode((await _find(http, http.match_info["id"])).items)
    items = items if page.order == "asc" else items[::-1]
    if page.after is not None:
        places = [index for index, item in enumerate(items) if item.id == page.after]
        if not places:
            raise RequestError(
                "invalid_request", "after: no item has this id; send that of an item in the list", param="after"
            )
        items = items[places[0] + 1 :]
    data = items[: page.limit]
    first, last = (data[0].id, data[-1].id) if data else ("", "")
    return json_answer(ItemList(data=data, first_id=first, last_id=last, has_more=len(items) > len(data)))


async def cancel_response(http: web.Request) -> web.StreamResponse:
    """Refused: nothing is made in the background."""
    await _find(http, http.match_info["id"])
    message = "this response is complete; only background responses can be cancelled, and there are none here"
    raise RequestError("invalid_request", f"{message}. To end one that is under way, close its connection")


async def _find(http: web.Request, asked: str, param: str | None = None) -> KeptResponse:
    store = http.app[RESPONSES]
    try:
        content = None if store is None else await store.get(_principal(http), asked)
    except (OSError, StateError) as error:
        _log.error("a kept response cannot be read: %s", error)
        message = f"the response {asked[:128]!r} is damaged or cannot be read; tell the operator, whose log has more"
        raise RequestError("internal_error", message, param=param) from error
    if content is None:
        raise _not_found(asked, param)
    return _kept.decode(content)


def _not_found(asked: str, param: str | None = None) -> RequestError:
    message = f"the response {asked[:128]!r} does not exist, or no more; only those made with store: true are kept"
    return RequestError("response_not_found", message, param=param)


def _unavailable(error: Exception | None = None) -> RequestError:
    """The paths in an error are for the log alone."""
    if error is not None:
        _log.error("a response cannot be kept or forgotten: %s", error)
    message = "responses cannot be kept or forgotten now: the disk is full or fails; leave store out"
    return RequestError("store_unavailable", message, param="store", retry_after=RETRY_SECONDS)


def _principal(http: web.Request) -> str:
    principal = http[EVIDENCE].principal
    assert principal is not None, "the middleware has run"
    return principal
