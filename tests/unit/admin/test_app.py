"""What every route passes before its handler, and what becomes of every error."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

import aiohttp
import pytest
from aiohttp import web
from msgspec import Meta, Struct

from appliance.access_config import Admin, AdminRole
from appliance.admin.administrator import ALL_ROLES, Administrator
from appliance.admin.app import BODY_BYTES_MAX, AdminApi, check_two_persons
from appliance.admin.route import Answer, Call, Route
from appliance.audit.errors import AuditUnavailable
from appliance.audit.record import bounded
from appliance.config import Config
from appliance.errors import ApplianceError, ChangeRefused, ConfigError, StateError
from appliance.security.refusal import Refusal
from appliance.state_dir import StateDir
from tests.admin.desk import Desk
from tests.sessions import owning_session

SECURITY: frozenset[AdminRole] = frozenset({"security"})
AUDITOR: frozenset[AdminRole] = frozenset({"auditor"})


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=8)]
    force: bool = False
    text: str | None = None
    step: Literal["start", "issue"] = "start"


class Bench:
    """A small admin API whose routes do what a test says, and a way to call it as anybody."""

    def __init__(self, state: StateDir, config: Config) -> None:
        self.calls: list[Call] = []
        self.work: Callable[[Call], Awaitable[Answer]] = self._nothing
        self.who = Administrator("anna", ALL_ROLES, 1001)
        self.refusal: Refusal | None = None
        self.transport: asyncio.Transport | None = None
        routes = (
            Route("GET", "/look", "thing.look", SECURITY, self._handle),
            Route("POST", "/do/{name}", "thing.do", SECURITY, self._handle, Body),
            Route("POST", "/bare", "thing.bare", SECURITY, self._handle),
            Route("POST", "/now", "thing.now", SECURITY, self._handle, plans=False),
            Route("POST", "/audit", "thing.audit", AUDITOR, self._handle),
            Route("POST", "/alone", "thing.alone", SECURITY, self._handle, alone=True),
        )
        self.desk = Desk(state, config, routes, state.run / "admin.sock")
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, state: StateDir, config: Config | None = None) -> AsyncIterator[Bench]:
        bench = cls(state, config or Config())
        runner = web.AppRunner(bench.desk.api.application(bench._identify), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        bench.url = "http://{}:{}".format(*runner.addresses[0][:2])
        try:
            async with owning_session(bench.url) as bench.session:
                yield bench
        finally:
            await runner.cleanup()
            bench.desk.security.close()

    session: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, data: bytes | io.BytesIO | None = None, **headers: str
    ) -> tuple[int, dict[str, Any], Any]:
        """Status, JSON body and headers."""
        if method == "POST":
            headers = {"Idempotency-Key": uuid.uuid4().hex, **headers}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, f"/admin/v1{path}", data=data, headers=given) as answer:
            return answer.status, await answer.json(), answer.headers

    def _identify(self, http: web.Request) -> tuple[Administrator, Any]:
        self.transport = http.transport
        if self.refusal is not None:
            raise self.refusal
        return self.who, self.desk.office.now()

    async def _handle(self, call: Call) -> Answer:
        self.calls.append(call)
        return await self.work(call)

    async def _nothing(self, call: Call) -> Answer:
        return call.answer({"call": len(self.calls)})


@pytest.fixture
async def bench(state: StateDir) -> AsyncIterator[Bench]:
    async with Bench.open(state) as bench:
        yield bench


async def test_an_answer_carries_the_generation_and_is_never_cached(bench: Bench) -> None:
    status, body, headers = await bench.ask("GET", "/look?name=x")
    assert (status, body) == (200, {"call": 1})
    assert headers["ETag"] == f'"{bench.desk.office.document.generation}"'
    assert headers["Cache-Control"] == "no-store"
    assert bench.calls[0].query == {"name": "x"}


async def test_json_that_is_made_already_goes_out_as_it_is(bench: Bench) -> None:
    async def make(call: Call) -> Answer:
        return call.answer(b'{"lines":["x"]}')

    bench.work = make
    assert (await bench.ask("GET", "/look"))[:2] == (200, {"lines": ["x"]})


async def test_a_large_answer_is_not_handed_to_the_socket_at_once(bench: Bench) -> None:
    """Copying it would keep the event loop, and with it every stream of tokens, for a tenth of a second."""
    text = b'"' + b"x" * 2**24 + b'"'

    async def make(call: Call) -> Answer:
        return call.answer(text)

    bench.work = make
    host, _, port = bench.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.closing(writer):
        writer.write(b"GET /admin/v1/look HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(text) in head
        assert bench.transport is not None
        assert bench.transport.get_write_buffer_size() < 2**20
        assert await reader.read() == text


async def test_a_handler_gets_what_was_said(bench: Bench) -> None:
    generation = bench.desk.office.document.generation
    await bench.ask("POST", "/do/it", b'{"name": "x"}', If_Match=f'"{generation}"')
    (call,) = bench.calls
    assert (call.match, call.body, call.plan) == ({"name": "it"}, Body("x"), False)
    assert call.expected == generation
    assert call.administrator is bench.who


async def test_a_role_that_is_not_named_is_refused_and_recorded(bench: Bench) -> None:
    for roles in (frozenset(), ALL_ROLES - SECURITY):
        bench.who = Administrator("ben", roles, 1002)
        for method, path in (("GET", "/look"), ("POST", "/do/it"), ("POST", "/do/it?plan=true")):
            status, body, _ = await bench.ask(method, path, b"no JSON at all" if method == "POST" else None)
            assert (status, body["error"]["code"]) == (403, "forbidden")
            assert "needs the role security" in body["error"]["message"]
            assert "admin.groups" in body["error"]["message"]
    assert not bench.calls
    denied = [record for record in await bench.desk.records() if record.outcome == "deny"]
    assert len(denied) == 6
    assert {record.action for record in denied} == {"thing.look", "thing.do"}
    assert {(record.actor.principal, record.actor.uid) for record in denied} == {("ben", 1002)}
    assert denied[1].resource == "/admin/v1/do/it"


async def test_over_tcp_roles_come_from_another_place(bench: Bench) -> None:
    bench.who = Administrator("ben", frozenset(), None)
    _, body, _ = await bench.ask("GET", "/look")
    assert body["error"]["message"].endswith("Roles come from admin.remote.administrators in appliance.yaml")


async def test_who_cannot_be_identified_is_refused(bench: Bench) -> None:
    bench.refusal = Refusal("certificate_rejected", "The client certificate is revoked.", reason="was refused: revoked")
    status, body, _ = await bench.ask("POST", "/bare")
    assert (status, body["error"]["code"]) == (401, "certificate_rejected")
    assert not bench.calls


BODIES = [
    (b"{", "no valid JSON"),
    (b'{"name": "x"} more', "no valid JSON"),
    (b'{"name": NaN}', "no valid JSON"),
    (b"\xff", "no valid JSON"),
    (b'{"name": "\xff"}', "no valid JSON"),
    (b"[" * 100_000, "expected an object"),
    (b"", "name: missing"),
    (b"[]", "expected an object"),
    (b"null", "expected an object"),
    (b'{"name": 3}', "name: expected text"),
    (b'{"name": "too long for it"}', "name: expected text of length <= 8"),
    (b'{"name": "x", "Force": true}', "unknown key"),
    (b'{"name": "x", "force": 1}', "force: expected true or false"),
    (b'{"name": "x", "step": "stop"}', "step: invalid enum value 'stop'; expected start or issue"),
]


async def test_a_body_that_is_not_what_the_route_takes(bench: Bench) -> None:
    for text, says in BODIES:
        status, body, _ = await bench.ask("POST", "/do/it", text)
        assert (status, body["error"]["code"]) == (400, "invalid"), text[:40]
        assert says in body["error"]["message"], text[:40]
    assert not bench.calls


async def test_a_body_has_a_limit(bench: Bench) -> None:
    status, body, _ = await bench.ask("POST", "/do/it", io.BytesIO(bytes(BODY_BYTES_MAX + 1)))
    assert (status, body["error"]["code"]) == (413, "invalid")
    assert "32 MiB" in body["error"]["message"]


async def test_if_match_is_a_generation_and_the_present_one(bench: Bench) -> None:
    generation = bench.desk.office.document.generation
    for text in ("*", 'W/"1"', "x", '"-1"', "9" * 5000, "١"):
        status, body, _ = await bench.ask("POST", "/bare", If_Match=text)
        assert (status, body["error"]["code"]) == (400, "invalid"), text
    for path in ("/bare", "/bare?plan=true", "/now"):
        status, body, _ = await bench.ask("POST", path, If_Match=f'"{generation + 1}"')
        assert (status, body["error"]["code"]) == (412, "generation_mismatch")
        assert f"at generation {generation}" in body["error"]["message"]
    assert not bench.calls
    assert await bench.desk.outcomes("thing.bare") == ["deny", "deny"]
    assert (await bench.ask("POST", "/bare", If_Match=f'"{generation}"'))[0] == 200
    assert (await bench.ask("POST", "/bare", If_Match=f"{generation}"))[0] == 200


async def test_a_repetition_does_not_act_again_even_though_the_generation_has_moved_on(bench: Bench) -> None:
    async def change(call: Call) -> Answer:
        change = await call.office.change(
            call.administrator.actor, "pepper.rotate", "x", lambda document, now: (document, None)
        )
        return Answer({"call": len(bench.calls)}, change.generation + 1)

    bench.work = change
    generation = f'"{bench.desk.office.document.generation}"'
    first = await bench.ask("POST", "/bare", If_Match=generation, Idempotency_Key="k")
    again = await bench.ask("POST", "/bare", If_Match='"77"', Idempotency_Key="k")
    assert first[:2] == again[:2] == (200, {"call": 1})
    assert first[2]["ETag"] == again[2]["ETag"]
    assert len(bench.calls) == 1


async def test_a_post_needs_an_idempotency_key_unless_it_only_plans(bench: Bench) -> None:
    status, body, _ = await bench.ask("POST", "/bare", Idempotency_Key="")
    assert (status, body["error"]["code"]) == (400, "invalid")
    assert "Idempotency-Key" in body["error"]["message"]
    assert not bench.calls
    assert (await bench.ask("POST", "/bare?plan=true", Idempotency_Key=""))[0] == 200
    assert bench.calls[0].plan


async def test_an_idempotency_key_belongs_to_one_request_of_one_administrator(bench: Bench) -> None:
    assert (await bench.ask("POST", "/do/a", b'{"name": "x"}', Idempotency_Key="k"))[0] == 200
    for path, data in (("/do/b", b'{"name": "x"}'), ("/do/a", b'{"name": "y"}'), ("/bare", b"")):
        status, body, _ = await bench.ask("POST", path, data, Idempotency_Key="k")
        assert (status, body["error"]["code"]) == (409, "conflict")
    assert len(bench.calls) == 1
    bench.who = Administrator("ben", ALL_ROLES, 1002)
    assert (await bench.ask("POST", "/do/a", b'{"name": "x"}', Idempotency_Key="k"))[1] == {"call": 2}


async def test_a_kept_answer_is_not_for_who_lost_the_role(bench: Bench) -> None:
    await bench.ask("POST", "/bare", Idempotency_Key="k")
    bench.who = Administrator("anna", ALL_ROLES - SECURITY, 1001)
    assert (await bench.ask("POST", "/bare", Idempotency_Key="k"))[0] == 403


async def test_a_query_that_is_not_understood_does_nothing(bench: Bench) -> None:
    for query in ("plan=yes", "plan=True", "plan=1", "plan", "Plan=true", "plan=true&x=1", "dry=1"):
        status, body, _ = await bench.ask("POST", f"/bare?{query}")
        assert (status, body["error"]["code"]) == (400, "invalid"), query
        assert "plan=true" in body["error"]["message"]
    assert not bench.calls


async def test_what_cannot_be_planned_is_not_done_instead(bench: Bench) -> None:
    status, body, _ = await bench.ask("POST", "/now?plan=true")
    assert (status, body["error"]["code"]) == (400, "invalid")
    assert "cannot be planned" in body["error"]["message"]
    assert not bench.calls


ERRORS: list[tuple[Exception, int, str]] = [
    (ChangeRefused("not_found", "m"), 404, "not_found"),
    (ChangeRefused("invalid", "m"), 400, "invalid"),
    (ChangeRefused("conflict", "m"), 409, "conflict"),
    (ChangeRefused("needs_force", "m"), 409, "needs_force"),
    (ChangeRefused("generation_mismatch", "m"), 412, "generation_mismatch"),
    (ChangeRefused("needs_approval", "m"), 403, "needs_approval"),
    (ChangeRefused("forbidden", "m"), 403, "forbidden"),
    (ConfigError("m"), 400, "config_rejected"),
    (StateError("m"), 503, "state_error"),
    (AuditUnavailable("m"), 503, "state_error"),
    (ApplianceError("m"), 500, "failed"),
]


async def test_errors_keep_their_sentence(bench: Bench) -> None:
    for error, status, code in ERRORS:

        async def fail(call: Call, error: Exception = error) -> Answer:
            raise error

        bench.work = fail
        for method, path in (("GET", "/look"), ("POST", "/bare"), ("POST", "/bare?plan=true")):
            assert (await bench.ask(method, path))[:2] == (status, {"error": {"code": code, "message": "m"}})


async def test_what_nobody_foresaw_is_logged_and_not_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(call: Call) -> Answer:
        raise RuntimeError("the secret is 42")

    bench.work = fail
    with caplog.at_level(logging.ERROR):
        status, body, _ = await bench.ask("POST", "/bare")
    assert (status, body["error"]["code"]) == (500, "failed")
    assert "42" not in str(body)
    assert "the secret is 42" in caplog.text


async def test_a_route_that_is_not_there_and_a_method_that_is_not(bench: Bench) -> None:
    status, body, _ = await bench.ask("GET", "/no/such/thing")
    assert (status, body["error"]["code"]) == (404, "not_found")
    assert "/admin/v1/no/such/thing" in body["error"]["message"]
    status, body, headers = await bench.ask("DELETE", "/look")
    assert (status, body["error"]["code"], headers["Allow"]) == (405, "invalid", "GET")
    assert (await bench.session.head("/admin/v1/look")).status == 405
    assert (await bench.session.options("/admin/v1/look")).status == 405


async def disconnect(bench: Bench, begun: asyncio.Event) -> None:
    """A client leaves once its request has begun."""
    async with aiohttp.ClientSession(bench.url) as other:
        asking = asyncio.get_running_loop().create_task(other.post("/admin/v1/bare", headers={"Idempotency-Key": "k"}))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_client_that_disconnects_does_not_stop_a_change_half_way(bench: Bench) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    done = []

    async def slow(call: Call) -> Answer:
        begun.set()
        await go.wait()
        done.append(call)
        return call.answer({"key": "shown once"})

    bench.work = slow
    await disconnect(bench, begun)
    async with asyncio.TaskGroup() as group:
        again = group.create_task(bench.ask("POST", "/bare", Idempotency_Key="k"))
        await asyncio.sleep(0.02)
        assert not done
        go.set()
    assert again.result()[1] == {"key": "shown once"}
    assert len(bench.calls) == len(done) == 1


async def test_the_listeners_end_does_not_stop_a_change_half_way(state: StateDir) -> None:
    """As at shutdown, where aiohttp cancels what still runs on its connections."""
    done = []
    async with Bench.open(state) as bench:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow(call: Call) -> Answer:
            begun.set()
            await go.wait()
            done.append(call)
            return call.answer(None)

        bench.work = slow
        await disconnect(bench, begun)
        assert not done
        asyncio.get_running_loop().call_later(0.1, go.set)
    assert len(done) == 1


async def test_a_client_that_goes_within_its_body_is_no_failure_of_ours(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = bench.url.removeprefix("http://").partition(":")
    _reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /admin/v1/bare HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(0.02)
        writer.close()
        await asyncio.sleep(0.05)
    assert not bench.calls
    assert not caplog.text


# Two persons.


def two(*actions: str, seconds: float = 3600.0) -> Config:
    return Config(admin=Admin(two_persons=actions, approval_seconds=seconds))


async def test_a_second_person_agrees_to_exactly_what_is_then_done_once(state: StateDir) -> None:
    async with Bench.open(state, two("thing.do")) as bench:
        body = b'{"name": "x", "force": false, "text": "' + b"long " * 100 + b'"}'
        status, answer, _ = await bench.ask("POST", "/do/it", body)
        assert (status, answer["error"]["code"]) == (403, "needs_approval")
        now = bench.desk.office.now()
        (asked,) = bench.desk.site.approvals.pending(now)
        assert f"approvals approve {asked.id}" in answer["error"]["message"]
        assert asked.what.startswith("name: x; text: long long")
        assert len(asked.what) < 300
        assert asked.resource == "/admin/v1/do/it"
        assert [call.plan for call in bench.calls] == [True], "what cannot be done would be refused at once"

        assert (await bench.ask("POST", "/do/it", body, Approval=asked.id))[0] == 409, "nobody has agreed yet"
        bench.desk.site.approvals.approve(asked.id, Administrator("ben", ALL_ROLES, 1002), now)
        for path, other in (("/do/it", b'{"name": "y"}'), ("/do/else", body)):
            assert (await bench.ask("POST", path, other, Approval=asked.id))[1]["error"]["code"] == "conflict"
        assert all(call.plan for call in bench.calls)
        assert (await bench.ask("POST", "/do/it", body, Approval=asked.id))[0] == 200
        assert [call.plan for call in bench.calls].count(False) == 1
        assert (await bench.ask("POST", "/do/it", body, Approval=asked.id))[0] == 404
        records = {record.action: record for record in await bench.desk.records()}
        known = {"approval": asked.id, "what": bounded(asked.what)}
        assert records["thing.do.asked"].details == known
        approved = records["thing.do.approved"]
        assert (approved.actor.principal, approved.details) == ("anna", {**known, "by": "ben"})


async def test_what_an_approval_is_not_for_is_refused_and_recorded(state: StateDir) -> None:
    async with Bench.open(state, two("thing.do")) as bench:
        await bench.ask("POST", "/do/it", b'{"name": "x"}')
        now = bench.desk.office.now()
        (asked,) = bench.desk.site.approvals.pending(now)
        await bench.ask("POST", "/do/it", b'{"name": "x"}', Approval=asked.id)
        bench.desk.site.approvals.approve(asked.id, Administrator("ben", ALL_ROLES, 1002), now)
        await bench.ask("POST", "/do/else", b'{"name": "x"}', Approval=asked.id)
        await bench.ask("POST", "/do/it", b'{"name": "x"}', Approval="guessed")
        denied = [record for record in await bench.desk.records() if record.outcome == "deny"]
        assert [(record.actor.principal, record.action, record.resource) for record in denied] == [
            ("anna", "thing.do", "/admin/v1/do/it"),
            ("anna", "thing.do", "/admin/v1/do/else"),
            ("anna", "thing.do", "/admin/v1/do/it"),
        ]
        assert [record.details["approval"] for record in denied] == [asked.id, asked.id, "guessed"]
        says = ("still waits", "for another act", "there is no approval")
        assert all(text in (record.reason or "") for text, record in zip(says, denied, strict=True))


async def test_what_cannot_be_done_troubles_nobody_and_spends_nothing(state: StateDir) -> None:
    async with Bench.open(state, two("thing.bare")) as bench:

        async def refuse(call: Call) -> Answer:
            raise ChangeRefused("conflict", "not in this state")

        await bench.ask("POST", "/bare", b"")
        now = bench.desk.office.now()
        (asked,) = bench.desk.site.approvals.pending(now)
        bench.desk.site.approvals.approve(asked.id, Administrator("ben", ALL_ROLES, 1002), now)
        usual, bench.work = bench.work, refuse
        assert (await bench.ask("POST", "/bare", Approval=asked.id))[1]["error"]["message"] == "not in this state"
        denied = [record for record in await bench.desk.records() if record.outcome == "deny"]
        assert [(record.action, record.reason) for record in denied] == [("thing.bare", "not in this state")]
        bench.work = usual
        assert (await bench.ask("POST", "/bare", Approval=asked.id))[0] == 200


async def test_planning_needs_nobody_else_and_looking_neither(state: StateDir) -> None:
    async with Bench.open(state, two("thing.bare", "thing.now")) as bench:
        assert (await bench.ask("POST", "/bare?plan=true"))[0] == 200
        assert (await bench.ask("POST", "/now"))[0] == 403
        assert (await bench.ask("POST", "/now?plan=true"))[0] == 400
        assert [call.plan for call in bench.calls] == [True]


@pytest.mark.parametrize(("action", "says"), [("thing.don", "did you mean 'thing.do'"), ("x", "known: thing.audit")])
def test_a_misspelt_action_does_not_quietly_need_only_one_person(state: StateDir, action: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Bench(state, two(action))


def test_some_actions_never_need_a_second_person() -> None:
    async def handler(call: Call) -> Answer:
        raise NotImplementedError

    routes = [
        Route("POST", "/a", "a.do", SECURITY, handler),
        Route("POST", "/b", "b.approve", SECURITY, handler, alone=True),
        Route("GET", "/c", "c.look", SECURITY, handler),
    ]
    check_two_persons(["a.do"], routes)
    for action in ("b.approve", "c.look"):
        with pytest.raises(ConfigError, match="no action that a second person"):
            check_two_persons([action], routes)


def test_the_api_is_made_of_its_routes(state: StateDir) -> None:
    bench = Bench(state, Config())
    assert isinstance(bench.desk.api, AdminApi)
    bench.desk.security.close()
