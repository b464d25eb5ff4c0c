"""The API as one aiohttp application, and the runner that serves it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from appliance.api.caller import Doorkeeper
from appliance.api.captured import CaptureSink
from appliance.api.chat import CHAT_COMPLETIONS, chat_completions
from appliance.api.completions import COMPLETIONS, completions
from appliance.api.embeddings import EMBEDDINGS, embeddings
from appliance.api.envelope import error_body, error_response
from appliance.api.evidence import TokensSent
from appliance.api.health import LIVEZ, READYZ, livez, readyz
from appliance.api.kept_responses import (
    CANCEL_RESPONSE,
    DELETE_RESPONSE,
    GET_RESPONSE,
    LIST_INPUT_ITEMS,
    cancel_response,
    delete_response,
    get_response,
    list_input_items,
)
from appliance.api.keys import (
    CAPTURE,
    DOCUMENT,
    DRAW_SEED,
    LIMIT_QUEUE,
    LIMITS,
    NOW,
    PARTING,
    PRINCIPAL_LIMITS,
    RESPONSES,
    ROLES,
    ROUTER,
    STARTED,
)
from appliance.api.messages import COUNT_TOKENS, MESSAGES, count_tokens, messages
from appliance.api.middleware import SERVER, evidence, finish_headers, http_sanity, principal
from appliance.api.mirror import MIRRORS, Mirrors
from appliance.api.models import GET_MODEL, LIST_MODELS, get_model, list_models
from appliance.api.openapi import OPENAPI, ApiDocument, openapi
from appliance.api.operation import ApiRoute
from appliance.api.parting import Parting
from appliance.api.rerank import RERANK, rerank
from appliance.api.responses import (
    COMPACT_RESPONSE,
    COUNT_INPUT_TOKENS,
    CREATE_RESPONSE,
    compact_response,
    count_input_tokens,
    create_response,
)
from appliance.api.tokens import APPLY_TEMPLATE, DETOKENIZE, TOKENIZE, apply_template, detokenize, tokenize
from appliance.clock import Clock
from appliance.config import RequestLimits
from appliance.errors import RequestError
from appliance.models.router import Router
from appliance.responses.store import ResponseStore
from appliance.security.limit_queue import LimitQueue
from appliance.security.limits import PrincipalLimits
from appliance.security.refusal_log import RefusalLog, Refused
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)
_SHUTDOWN_SECONDS: Final = 2.0
_NOT_HTTP: Final = "the request is not valid HTTP; look at the client, or the proxy, that sent it"
# With room above for the seeds of further choices in whatever a client keeps them in.
_SEED_BITS: Final = 31
_LOOK: Final = frozenset({"viewer", "inference"})
_USE: Final = frozenset({"inference"})


def build_app(
    router: Router,
    limits: Callable[[], RequestLimits],
    principal_limits: PrincipalLimits,
    now: Clock,
    doorkeeper: Doorkeeper,
    keep: Callable[[RequestRecord], None],
    capture: CaptureSink | None = None,
    draw_seed: Callable[[], int] = lambda: secrets.randbits(_SEED_BITS),
    responses: ResponseStore | None = None,
    tracing: Tracing | None = None,
    sent: TokensSent | None = None,
    parting: Parting | None = None,
) -> web.Application:
    """Routes and middlewares. The API's routes exist with and without `/v1`. sent: see Evidence."""
    app = web.Application(
        client_max_size=limits().body_bytes_max,
        middlewares=[evidence(doorkeeper, keep, tracing, sent), http_sanity, principal(doorkeeper)],
    )
    app.on_response_prepare.append(finish_headers)
    app[ROUTER] = router
    app[LIMITS] = limits
    app[PRINCIPAL_LIMITS] = principal_limits
    app[LIMIT_QUEUE] = LimitQueue(principal_limits, time.monotonic, now)
    app[NOW] = now
    app[CAPTURE] = capture
    app[DRAW_SEED] = draw_seed
    app[RESPONSES] = responses
    app[PARTING] = parting or Parting()
    app[MIRRORS] = Mirrors(keep)
    app.on_cleanup.append(_end_mirrors)
    app[DOCUMENT] = ApiDocument(api_routes())
    app[STARTED] = int(time.time())
    app[ROLES] = {route.handler: route.roles for route in api_routes() if route.roles is not None}
    for route in api_routes():
        app.router.add_route(route.method, route.path, route.handler, expect_handler=_expect)
    return app


def api_routes() -> Iterator[ApiRoute]:
    """Every route, and whose role it takes; a role that is not named may not."""
    yield ApiRoute("GET", "/livez", livez, None, LIVEZ)
    yield ApiRoute("GET", "/readyz", readyz, None, READYZ)
    for prefix in ("/v1", ""):
        yield ApiRoute("GET", f"{prefix}/openapi.json", openapi, _LOOK, OPENAPI)
        yield ApiRoute("GET", f"{prefix}/models", list_models, _LOOK, LIST_MODELS)
        yield ApiRoute("GET", f"{prefix}/models/{{model:.+}}", get_model, _LOOK, GET_MODEL)
        yield ApiRoute("POST", f"{prefix}/chat/completions", chat_completions, _USE, CHAT_COMPLETIONS)
        yield ApiRoute("POST", f"{prefix}/completions", completions, _USE, COMPLETIONS)
        yield ApiRoute("POST", f"{prefix}/responses", create_response, _USE, CREATE_RESPONSE)
        yield ApiRoute("POST", f"{prefix}/responses/input_tokens", count_input_tokens, _USE, COUNT_INPUT_TOKENS)
        yield ApiRoute("POST", f"{prefix}/responses/compact", compact_response, _USE, COMPACT_RESPONSE)
        yield ApiRoute("GET", f"{prefix}/responses/{{id}}", get_response, _USE, GET_RESPONSE)
        yield ApiRoute("DELETE", f"{prefix}/responses/{{id}}", delete_response, _USE, DELETE_RESPONSE)
        yield ApiRoute("GET", f"{prefix}/responses/{{id}}/input_items", list_input_items, _USE, LIST_INPUT_ITEMS)
        yield ApiRoute("POST", f"{prefix}/responses/{{id}}/cancel", cancel_response, _USE, CANCEL_RESPONSE)
        yield ApiRoute("POST", f"{prefix}/tokenize", tokenize, _USE, TOKENIZE)
        yield ApiRoute("POST", f"{prefix}/detokenize", detokenize, _USE, DETOKENIZE)
        yield ApiRoute("POST", f"{prefix}/apply-template", apply_template, _USE, APPLY_TEMPLATE)
        yield ApiRoute("POST", f"{prefix}/embeddings", embeddings, _USE, EMBEDDINGS)
        yield ApiRoute("POST", f"{prefix}/rerank", rerank, _USE, RERANK)
        yield ApiRoute("POST", f"{prefix}/reranking", rerank, _USE, RERANK)
        yield ApiRoute("POST", f"{prefix}/messages", messages, _USE, MESSAGES)
        yield ApiRoute("POST", f"{prefix}/messages/count_tokens", count_tokens, _USE, COUNT_TOKENS)
    yield ApiRoute("POST", "/v2/rerank", rerank, _USE, RERANK)


async def _end_mirrors(app: web.Application) -> None:
    await app[MIRRORS].close()


async def _expect(http: web.Request) -> None:
    """Encourages clients that wait for it; other expectations are nothing to refuse a request for."""
    if http.headers["Expect"].lower() == "100-continue":
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        http.writer.output_size = 0


class ApiRunner(web.AppRunner):
    """Serves an application whose every error has a shape that clients read, also to what the HTTP parser refuses.

    A handler is cancelled when its client goes, whatever it waits for.
    """

    def __init__(self, app: web.Application, *, keepalive_seconds: float, refused: Refused | None = None) -> None:
        # What still hangs on a connection when it comes to this is not worth waiting for: the router has drained.
        super().__init__(app, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._keepalive_seconds = keepalive_seconds
        self._refusals = RefusalLog(_log, refused)
        self._further: list[web.Server] = []

    async def _make_server(self) -> web.Server:
        return self._wrap(await super()._make_server())

    async def further_server(self) -> web.Server:
        """One more server of the same application, for one more listener. After `setup`."""
        server = self._wrap(await super()._make_server())
        self._further.append(server)
        return server

    def _wrap(self, inner: web.Server) -> web.Server:
        return _ApiServer(
            inner.request_handler,
            self._refusals,
            request_factory=inner.request_factory,
            handler_cancellation=True,
            keepalive_timeout=self._keepalive_seconds,
            access_log=None,
            auto_decompress=False,
        )

    def connections(self) -> list[_ApiProtocol]:
        """Those of all listeners, past the handshake."""
        servers = self._further if self._server is None else (self._server, *self._further)
        return [one for server in servers for one in server.connections if isinstance(one, _ApiProtocol)]

    async def cleanup(self) -> None:
        """Ends the server; what was counted of malformed requests is logged."""
        for server in self._further:
            server.pre_shutdown()
        for server in self._further:
            await server.shutdown(_SHUTDOWN_SECONDS)
        await super().cleanup()
        self._refusals.close()


class _ApiServer(web.Server):
    def __init__(self, handler: Any, refusals: RefusalLog, **options: Any) -> None:
        super().__init__(handler, **options)
        self._refusals = refusals

    def __call__(self) -> RequestHandler:
        return _ApiProtocol(self, self._refusals, loop=self._loop, **self._kwargs)


class _ApiProtocol(RequestHandler):
    __slots__ = ("_refusals",)

    def __init__(self, server: web.Server, refusals: RefusalLog, **options: Any) -> None:
        super().__init__(server, **options)
        self._refusals = refusals

    @property
    def idle_since(self) -> float | None:
        """See Connection."""
        if self._waiter is None or self._waiter.done():
            return None
        # It is set at the beginning, and with the end of each answer.
        return self._next_keepalive_close_time - self._keepalive_timeout

    @property
    def ended(self) -> bool:
        """See Connection."""
        return self.transport is None or self.transport.is_closing()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to bytes that are no HTTP request, in the one error shape; the connection closes."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is already under way")
        self._refusals.record(str(request.remote), type(exc).__name__, "sent what is no valid HTTP request")
        what = _NOT_HTTP if status < 500 else "the appliance failed; try again, and tell its operator"
        error = RequestError("invalid_request" if status < 500 else "internal_error", what)
        response: Any = error_response(error, error_body(error))
        response.headers["Server"] = SERVER
        response.force_close()
        return response  # type: ignore[no-any-return]
