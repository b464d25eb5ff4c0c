"""What every request passes, in one fixed order: evidence → HTTP sanity → recordable → principal → role → handler.

A refusal at any point is an error in the shape that the path's clients read and one RequestRecord; nothing falls
through.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware

from appliance.api.caller import Doorkeeper
from appliance.api.dialect import dialect_of, shown_keys
from appliance.api.envelope import error_response, from_http_exception
from appliance.api.evidence import Evidence, TokensSent
from appliance.api.keys import ANSWER_HEADERS, CALLER, EVIDENCE, PARTING, ROLES
from appliance.errors import RequestError
from appliance.security.refusal import Refusal
from appliance.telemetry.log_context import ABOUT, LogContext
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.spans import TracedRequest
from appliance.telemetry.trace_context import HEADER as TRACE_HEADER
from appliance.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)

SERVER: Final = "appliance"
HEALTH_PATHS: Final = frozenset({"/livez", "/readyz"})
EXPIRES_HEADER: Final = "X-Appliance-Key-Expires"


def evidence(
    doorkeeper: Doorkeeper,
    keep: Callable[[RequestRecord], None],
    tracing: Tracing | None = None,
    sent: TokensSent | None = None,
) -> Middleware:
    """The outermost middleware: answers every error and hands one record per request to `keep`, and to `tracing`.

    Health checks leave no record: they would be most of the log.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        trace = None if tracing is None else tracing.trace(request.headers.get(TRACE_HEADER))
        gate_seconds = None if trace is None else doorkeeper.gate_seconds(request)
        draft = Evidence.of(request, doorkeeper.address(request), trace, sent)
        request[EVIDENCE] = draft
        request[ANSWER_HEADERS] = dict.fromkeys(dialect_of(request).id_headers, draft.id)
        if trace is not None:
            request[ANSWER_HEADERS][TRACE_HEADER] = trace.header()
        about = ABOUT.set(LogContext(draft.id, None if trace is None else trace.trace_id))
        response: web.StreamResponse | None = None
        gone = False
        try:
            response = await _answer(request, handler, draft)
            return response
        except (asyncio.CancelledError, ConnectionError):
            gone = True
            raise
        finally:
            ABOUT.reset(about)
            if request.path not in HEALTH_PATHS:
                record = draft.record(response.status if response else None, client_gone=gone)
                keep(record)
                if tracing is not None and trace is not None:
                    tracing.ended(
                        TracedRequest(
                            record=record,
                            trace=trace,
                            gate_seconds=gate_seconds,
                            auth_seconds=None if draft.known is None else draft.known - draft.arrived,
                        )
                    )
                if draft.captured is not None:
                    draft.captured.end(record)

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
        refusal = RequestError(
            "internal_error",
            f"the appliance failed; try again, and tell its operator: the log has more under request id {draft.id}",
        )
    draft.failed(refusal)
    _log.debug("request %s from %s refused: %s: %s", draft.id, draft.address, refusal.code, refusal.message)
    return error_response(refusal, dialect_of(http).error_body(refusal, draft.id))


@web.middleware
async def http_sanity(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what HTTP/1.1 clients never send and parsers disagree about."""
    if fault := _fault(request):
        raise fault
    return await handler(request)


def _fault(http: web.Request) -> RequestError | None:
    if http.version != HttpVersion11:
        return RequestError(
            "invalid_request", "HTTP/1.1 is required; behind nginx set proxy_http_version 1.1", param="http_version"
        )
    if http.method in ("CONNECT", "TRACE"):
        return RequestError("method_not_allowed", f"{http.method} is not allowed here; use GET, POST or DELETE")
    if not http.raw_path.startswith("/"):
        return RequestError("invalid_request", "the request target must be a path; send one that begins with /v1")
    if http.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        return RequestError(
            "invalid_request", "chunked is the only transfer encoding that is understood; send Content-Length"
        )
    if "Upgrade" in http.headers:
        return RequestError("invalid_request", "this connection speaks HTTP/1.1 and nothing else; leave out Upgrade")
    return None


async def finish_headers(http: web.Request, response: web.StreamResponse) -> None:
    """Before an answer's headers are written: adds what was collected for them, and ends connections that must.

    Those are all of them once the service stops, and those that may mislead, where the next request could be something
    else than its sender meant: aiohttp's parser takes the last trailer field of a chunked body for a header of the
    request that follows.
    """
    response.headers["Server"] = SERVER
    for name, value in http.get(ANSWER_HEADERS, {}).items():
        response.headers.setdefault(name, value)
    if http.app[PARTING].begun or "Transfer-Encoding" in http.headers or _fault(http) is not None:
        response.headers["Connection"] = "close"
        response.force_close()


def principal(doorkeeper: Doorkeeper) -> Middleware:
    """Ties the request to its principal, and that to what its role may, or refuses it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in HEALTH_PATHS:
            return await handler(request)
        doorkeeper.check_recordable()
        draft = request[EVIDENCE]
        try:
            caller = doorkeeper.authenticate(request, shown_keys(request))
        except RequestError as error:
            if isinstance(error, Refusal):
                # Which key it is that clients still show, though it has expired.
                draft.key_id = error.kid
            await doorkeeper.slow_down(request)
            raise
        draft.principal, draft.key_id = caller.id, caller.kid
        if draft.trace is not None:
            draft.known = time.monotonic()
        request[CALLER] = caller
        if caller.expires is not None:
            request[ANSWER_HEADERS][EXPIRES_HEADER] = f"{caller.expires:%Y-%m-%dT%H:%M:%SZ}"
        # A path that is no route has no roles; its handler answers 404.
        roles = request.app[ROLES].get(request.match_info.handler)
        if roles is not None and caller.settings.role not in roles:
            message = (
                f"the role {caller.settings.role!r} of {caller.id!r} does not allow this; ask the operator for another"
            )
            raise RequestError("role_not_allowed", message)
        return await handler(request)

    return middleware
