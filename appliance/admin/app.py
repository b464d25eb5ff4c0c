"""The admin API as one aiohttp application: every route passes the same checks, in one order.

identity → role → body → idempotency → If-Match → second person → handler → answer
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import difflib
import hashlib
import io
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from appliance.admin.administrator import Administrator
from appliance.admin.idempotency import IdempotentAnswers, KeptAnswer
from appliance.admin.route import Answer, Call, Route, Stream
from appliance.admin.site import AdminSite
from appliance.admin_client import PREFIX
from appliance.audit.record import AuditEvent, Outcome
from appliance.errors import ApplianceError, ChangeCode, ChangeRefused, ConfigError, StateError
from appliance.safe_text import safe_text
from appliance.security.credential_store import moved_on
from appliance.security.refusal import Refusal
from appliance.validation import explain

BODY_BYTES_MAX: Final = 32 * 2**20
# Of a request that waits for a second person, what is shown of one field and of all.
TEXT_CHARS_MAX: Final = 256
SHORT_CHARS_MAX: Final = 2000
SLOW_READER_SECONDS: Final = 15.0
_GENERATION_DIGITS_MAX: Final = 18

_STATUS: Final[dict[ChangeCode, int]] = {
    "not_found": 404,
    "invalid": 400,
    "conflict": 409,
    "needs_force": 409,
    "generation_mismatch": 412,
    "needs_approval": 403,
    "forbidden": 403,
}
_log = logging.getLogger(__name__)

# Who is at the other end of a request's connection, and since when it is there. Raises Refusal.
Identify = Callable[[web.Request], tuple[Administrator, datetime]]


class AdminApi:
    """The application of one daemon; its listeners share approvals and remembered answers."""

    def __init__(self, site: AdminSite, routes: Sequence[Route]) -> None:
        """Raises ConfigError where `two_persons` names what is no action."""
        check_two_persons(site.office.config.admin.two_persons, routes)
        self._site = site
        self._routes = routes
        self._answers = IdempotentAnswers()

    def application(self, identify: Identify) -> web.Application:
        """For one listener, with its way to know who is calling."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_errors])
        for route in self._routes:
            app.router.add_route(route.method, PREFIX + route.path, self._handler(route, identify))
        app.on_cleanup.append(self._close)
        app.on_response_prepare.append(_name_server)
        return app

    async def _close(self, app: web.Application) -> None:
        await self._answers.close()

    def _handler(self, route: Route, identify: Identify) -> Handler:
        async def handle(http: web.Request) -> web.StreamResponse:
            administrator, connected_at = identify(http)
            self._check_role(route, administrator, http)
            raw = await http.read()
            call = Call(
                route=route,
                administrator=administrator,
                site=self._site,
                match=dict(http.match_info),
                query=dict(http.query),
                body=_body(route, raw),
                expected=_if_match(http),
                plan=_plan(route, http),
                connected_at=connected_at,
                last_event_id=http.headers.get("Last-Event-ID", ""),
            )
            if route.method == "GET":
                answer = await route.handler(call)
                return await _sent(http, answer) if isinstance(answer, Stream) else _response(_kept(answer))
            if call.plan:
                self._check_generation(route, call, http)
                return _response(_kept(await route.handler(call)))
            digest = _digest(http, raw)
            key = http.headers.get("Idempotency-Key", "")
            if not key:
                raise ChangeRefused("invalid", "a POST needs an Idempotency-Key header: any text, new for each act")

            async def act() -> KeptAnswer:
                return await self._act(route, call, http, raw, digest)

            return _response(await self._answers.once(administrator.name, key, digest, act))

        return handle

    async def _act(self, route: Route, call: Call, http: web.Request, raw: bytes, digest: str) -> KeptAnswer:
        """The handler, once a second person has agreed where one must."""
        self._check_generation(route, call, http)
        if route.action in self._site.office.config.admin.two_persons:
            if route.plans:
                # What cannot be done is refused before a second person is troubled, or an approval spent.
                with self._recorded(route, call, http):
                    await route.handler(dataclasses.replace(call, plan=True))
            if self._site.one_command:
                raise ChangeRefused(
                    "conflict",
                    f"{route.action} needs a second administrator, who can agree only while the appliance runs; start "
                    "it, then repeat the command",
                )
            given, now = http.headers.get("Approval", ""), self._site.office.now()
            if not given:
                what = "" if route.body is None else _in_short(raw)
                asked = self._site.approvals.ask(
                    call.administrator, route.action, http.path, what, route.roles, digest, now
                )
                self._audit(
                    call.administrator,
                    f"{route.action}.asked",
                    http.path,
                    "allow",
                    approval=asked.id,
                    what=asked.what,
                )
                raise ChangeRefused(
                    "needs_approval",
                    f"{route.action} needs a second administrator: let one run `appliance approvals approve "
                    f"{asked.id}`, then repeat the command with --approval {asked.id}",
                )
            with self._recorded(route, call, http, approval=given):
                spent = self._site.approvals.spend(given, call.administrator, digest, now)
            self._audit(
                call.administrator,
                f"{route.action}.approved",
                http.path,
                "allow",
                approval=spent.id,
                what=spent.what,
                by=spent.approved_by or "",
            )
        return _kept(await route.handler(call))

    def _check_role(self, route: Route, administrator: Administrator, http: web.Request) -> None:
        if route.roles & administrator.roles:
            return
        self._audit(administrator, route.action, http.path, "deny")
        held = ", ".join(sorted(administrator.roles)) or "none"
        source = "admin.remote.administrators" if administrator.uid is None else "admin.groups"
        raise ChangeRefused(
            "forbidden",
            f"{route.action} needs the role {' or '.join(sorted(route.roles))}; {administrator.name} has {held}. "
            f"Roles come from {source} in appliance.yaml",
        )

    def _check_generation(self, route: Route, call: Call, http: web.Request) -> None:
        """For what is no change of the credentials; such a change is checked again when its turn has come."""
        found = self._site.office.document.generation
        if call.expected is not None and call.expected != found:
            error = ChangeRefused("generation_mismatch", moved_on(call.expected, found))
            self._audit(call.administrator, route.action, http.path, "deny", reason=error.message)
            raise error

    @contextlib.contextmanager
    def _recorded(self, route: Route, call: Call, http: web.Request, **details: str) -> Iterator[None]:
        """Why it was refused, of what the handler does not record itself."""
        try:
            yield
        except ChangeRefused as error:
            self._audit(call.administrator, route.action, http.path, "deny", reason=error.message, **details)
            raise

    def _audit(
        self,
        administrator: Administrator,
        action: str,
        resource: str,
        outcome: Outcome,
        reason: str | None = None,
        **details: str,
    ) -> None:
        event = AuditEvent(
            action=action,
            outcome=outcome,
            actor=administrator.actor,
            resource=resource,
            reason=reason,
            details=details,
        )
        self._site.office.audit.append(event)


def check_two_persons(actions: Sequence[str], routes: Sequence[Route]) -> None:
    """A misspelt action would be one that a single person can do. Raises ConfigError."""
    known = {route.action for route in routes if route.method == "POST" and not route.alone}
    for action in actions:
        if action not in known:
            near = difflib.get_close_matches(action, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"admin.two_persons: {action!r} is no action that a second person can approve; {hint}")


async def _name_server(http: web.Request, response: web.StreamResponse) -> None:
    """No versions."""
    response.headers["Server"] = "appliance"


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ChangeRefused as error:
        return _error(_STATUS[error.code], error.code, error.message)
    except Refusal as error:
        return _error(error.status, error.code, error.message)
    except ConfigError as error:
        return _error(400, "config_rejected", str(error))
    except StateError as error:
        return _error(503, "state_error", str(error))
    except ApplianceError as error:
        return _error(500, "failed", str(error))
    except web.HTTPNotFound:
        return _error(404, "not_found", f"there is no {request.path}; the admin API begins with {PREFIX}/whoami")
    except web.HTTPRequestEntityTooLarge:
        return _error(413, "invalid", f"the body is larger than {BODY_BYTES_MAX // 2**20} MiB")
    except web.HTTPException as error:
        answer = _error(error.status, "invalid", error.reason)
        answer.headers.update({name: value for name, value in error.headers.items() if name == "Allow"})
        return answer
    except ConnectionError:
        # Nobody will read it.
        return _error(400, "invalid", "the connection ended within the request")
    except Exception:
        _log.exception("%s %s failed", request.method, request.path)
        return _error(500, "failed", "the appliance failed; its log says why")


def _body(route: Route, raw: bytes) -> object:
    if route.body is None:
        return None
    try:
        return msgspec.json.decode(raw or b"{}", type=route.body)
    except msgspec.ValidationError as error:
        message, where = explain(error, route.body)
        raise ChangeRefused("invalid", f"{where}: {message}" if where else message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ChangeRefused("invalid", f"the body is no valid JSON: {error}") from error


def _plan(route: Route, http: web.Request) -> bool:
    """Whether only to say what would happen. What is not understood must not be done for real."""
    if route.method == "GET" or not http.query:
        return False
    if list(http.query.items()) != [("plan", "true")]:
        raise ChangeRefused("invalid", f"a POST takes no query but plan=true, not {http.query_string!r}")
    if not route.plans:
        raise ChangeRefused("invalid", f"{route.action} cannot be planned, only done")
    return True


def _if_match(http: web.Request) -> int | None:
    text = http.headers.get("If-Match", "").strip('"')
    if text and not (text.isascii() and text.isdigit() and len(text) <= _GENERATION_DIGITS_MAX):
        raise ChangeRefused("invalid", "If-Match is the generation that an ETag showed, a number in quotes")
    return int(text) if text else None


def _digest(http: web.Request, raw: bytes) -> str:
    return hashlib.sha256(f"{http.method} {http.path_qs}\n".encode() + raw).hexdigest()


def _in_short(raw: bytes) -> str:
    """What a body says, for the second person: without what it leaves open, long texts cut."""
    given = {name: value for name, value in msgspec.json.decode(raw or b"{}").items() if value not in (None, "", False)}
    texts = (f"{name}: {safe_text(_plain(value), TEXT_CHARS_MAX)}" for name, value in given.items())
    return safe_text("; ".join(texts), SHORT_CHARS_MAX)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


async def _sent(http: web.Request, answer: Stream) -> web.StreamResponse:
    """A stream that fails ends without its end: whoever reads it knows."""
    chunks = answer.chunks
    try:
        # What cannot be begun is still a real status.
        first = await anext(chunks, b"")
        headers = {"ETag": f'"{answer.generation}"', "Cache-Control": "no-store", "Content-Type": answer.content_type}
        response = web.StreamResponse(headers=headers)
        await response.prepare(http)
        try:
            async with asyncio.timeout(None) as patience:
                if first:
                    await _written(response, first, patience, answer)
                async for chunk in chunks:
                    await _written(response, chunk, patience, answer)
                await response.write_eof()
        except (ApplianceError, OSError) as error:
            # TimeoutError is an OSError.
            _log.log(logging.DEBUG if answer.live else logging.ERROR, "%s ended unfinished: %s", http.path, error)
            if http.transport is not None:
                http.transport.abort()
        return response
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def _written(response: web.StreamResponse, chunk: bytes, patience: asyncio.Timeout, answer: Stream) -> None:
    if answer.live:
        patience.reschedule(asyncio.get_running_loop().time() + SLOW_READER_SECONDS)
    await response.write(chunk)
    patience.reschedule(None)


def _kept(answer: Answer | Stream) -> KeptAnswer:
    assert isinstance(answer, Answer), "only a GET is answered piece by piece"
    body = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
    return KeptAnswer(answer.status, body, answer.generation)


def _response(answer: KeptAnswer) -> web.Response:
    headers = {"ETag": f'"{answer.generation}"', "Cache-Control": "no-store"}
    # As a stream, which aiohttp sends in pieces: the socket's buffer would be a copy of all of it.
    body = io.BytesIO(answer.body)
    return web.Response(status=answer.status, body=body, content_type="application/json", headers=headers)


def _error(status: int, code: str, message: str) -> web.Response:
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return web.Response(status=status, body=body, content_type="application/json")
