"""What every request passes, in one fixed order: evidence → HTTP sanity → principal → handler.

A refusal at any point is an OpenAI-shaped error and one RequestRecord; nothing falls through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware

from appliance.api.envelope import error_response, from_http_exception
from appliance.api.evidence import Evidence
from appliance.api.keys import EVIDENCE
from appliance.errors import RequestError
from appliance.telemetry.request_record import RequestRecord

_log = logging.getLogger(__name__)

HEALTH_PATHS: Final = frozenset({"/livez", "/readyz"})


class Caller(Protocol):
    """Who is asking: a stable principal and the key it showed."""

    @property
    def id(self) -> str: ...
    @property
    def kid(self) -> str: ...


class Doorkeeper(Protocol):
    """What the API needs of the security layer, per request."""

    def address(self, http: web.Request) -> str:
        """The peer's address."""
        ...

    def authenticate(self, http: web.Request, authorization: Sequence[str]) -> Caller:
        """The caller. Raises RequestError."""
        ...


def evidence(doorkeeper: Doorkeeper, keep: Callable[[RequestRecord], None]) -> Middleware:
    """The outermost middleware: answers every error and hands one record per request to `keep`.

    Health checks leave no record: they would be most of the log.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        draft = Evidence.of(request, doorkeeper.address(request))
        request[EVIDENCE] = draft
        response: web.StreamResponse | None = None
        gone = False
        try:
            response = await _answer(request, handler, draft)
            response.headers.setdefault("X-Request-Id", draft.id)
            return response
        except (asyncio.CancelledError, ConnectionError):
            gone = True
            raise
        finally:
            if request.path not in HEALTH_PATHS:
                keep(draft.record(response.status if response else None, client_gone=gone))

    return middleware


async def _answer(http: web.Request, handler: Handler, draft: Evidence) -> web.StreamResponse:
    try:
        return await handler(http)
    except RequestError as error:
        refusal = error
    except web.HTTPException as error:
        refusal = from_http_exception(error, http)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        _log.exception("request %s failed", draft.id)
        refusal = RequestError("internal_error", f"the appliance failed; its log has more under request id {draft.id}")
    draft.failed(refusal)
    _log.debug("request %s from %s refused: %s: %s", draft.id, draft.address, refusal.code, refusal.message)
    return error_response(refusal)


@web.middleware
async def http_sanity(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what HTTP/1.1 clients never send and parsers disagree about."""
    if request.version != HttpVersion11:
        raise RequestError(
            "invalid_request", "HTTP/1.1 is required; behind nginx set proxy_http_version 1.1", param="http_version"
        )
    if not request.raw_path.startswith("/"):
        raise RequestError("invalid_request", "the request target must be a path")
    if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise RequestError("invalid_request", "chunked is the only transfer encoding that is understood")
    return await handler(request)


def principal(doorkeeper: Doorkeeper) -> Middleware:
    """Ties the request to its principal, or refuses it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in HEALTH_PATHS:
            return await handler(request)
        caller = doorkeeper.authenticate(request, request.headers.getall("Authorization", []))
        draft = request[EVIDENCE]
        draft.principal, draft.key_id = caller.id, caller.kid
        return await handler(request)

    return middleware
