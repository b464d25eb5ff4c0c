"""Every route and every role, against a table written out by hand: what is not in it is denied."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final, get_args

import aiohttp
import pytest
from aiohttp import web

from appliance.access_config import AdminRole, PrincipalSettings
from appliance.admin.administrator import Administrator
from appliance.admin.app import check_two_persons
from appliance.admin.route import Answer, Call, Route
from appliance.admin.routes import ROUTES
from appliance.api.app import api_routes
from appliance.config import Config
from appliance.state_dir import StateDir
from tests.admin.desk import Desk
from tests.api.conftest import running_api

ROLES: Final = get_args(AdminRole)

# v: viewer, o: operator, s: security, a: auditor.
EXPECTED: Final = """
GET  /whoami                         vosa
GET  /status                         vosa
GET  /snapshot                       vosa
GET  /metrics                        vosa
GET  /events                         vosa
GET  /history                        vosa
POST /reload                         .os.
GET  /approvals                      .osa
POST /approvals/{id}/approve         .osa
POST /approvals/{id}/reject          .osa
GET  /instances                      vosa
GET  /instances/{model}/preflight    vosa
POST /instances/{model}/load         .o..
POST /instances/{model}/unload       .o..
POST /instances/{model}/pin          .o..
POST /instances/{model}/unpin        .o..
POST /models/apply                   .o..
GET  /aliases                        vosa
POST /aliases/{alias}/rollout        .o..
POST /aliases/{alias}/rollback       .o..
POST /drain                          .o..
POST /resume                         .o..
GET  /doctor                         .osa
GET  /logs                           .osa
GET  /requests                       .o.a
GET  /requests/export                .o.a
GET  /usage                          vosa
GET  /evidence/{request_id}          .o.a
GET  /alerts                         vosa
POST /alerts/ack                     .os.
POST /alerts/silence                 .os.
POST /alerts/test                    .os.
GET  /clients                        .os.
POST /clients                        ..s.
POST /clients/{name}/renew           ..s.
POST /clients/{name}/revoke          ..s.
POST /clients/{name}/restore         ..s.
GET  /clients/{name}/dify            ..s.
GET  /keys                           .os.
POST /keys                           ..s.
POST /keys/{kid}/rotate              ..s.
POST /keys/{kid}/revoke              ..s.
POST /tokens/{token}/revoke          ..s.
GET  /certificates                   .os.
POST /certificates/revoke            ..s.
POST /certificates                   ..s.
POST /server/renew                   ..s.
POST /server/activate                ..s.
POST /server/rollback                ..s.
POST /server/request                 ..s.
POST /server/import                  ..s.
GET  /authorities/{name}             .os.
POST /authorities/{name}/rotation    ..s.
GET  /crl                            .os.
POST /crls                           ..s.
GET  /store                          vosa
GET  /store/{name}                   vosa
POST /store                          .o..
POST /store/{name}/verify            .o..
POST /store/{name}/quantize          .o..
POST /store/{name}/remove            .o..
GET  /jobs/{id}                      .os.
POST /jobs/{id}/cancel               .o..
GET  /allowlist                      .os.
GET  /allowlist/test                 .os.
GET  /allowlist/denied               .os.
POST /allowlist/stage                ..s.
POST /allowlist/discard              ..s.
POST /allowlist/apply                ..s.
POST /allowlist/confirm              ..s.
POST /allowlist/revert               ..s.
GET  /secrets                        ..s.
POST /data-keys/{purpose}/rotate     ..s.
POST /kek/rekey                      ..s.
POST /peppers/rotate                 ..s.
POST /peppers/retire                 ..s.
POST /seal-key/rotate                ..s.
GET  /audit/records                  ...a
GET  /audit/export                   ...a
GET  /audit/head                     ...a
POST /audit/verify                   ...a
POST /audit/take-key                 ...a
GET  /capture                        ...a
GET  /capture/{request_id}           ...a
POST /backup                         ..s.
"""

# What can only be done, and what never needs a second person.
NOT_PLANNED: Final = {
    "config.reload",
    "approval.approve",
    "approval.reject",
    "audit.verify",
    "audit.take_key",
    "model.verify",
    "job.cancel",
}
ALONE: Final = {"approval.approve", "approval.reject", "audit.verify", "job.cancel"}

# The API: what the roles of applications may.
API_EXPECTED: Final = """
GET  /livez                 everyone
GET  /readyz                everyone
GET  /v1/openapi.json       viewer inference
GET  /v1/models             viewer inference
GET  /v1/models/{model:.+}  viewer inference
POST /v1/chat/completions   inference
POST /v1/tokenize           inference
POST /v1/detokenize         inference
POST /v1/apply-template     inference
POST /v1/completions        inference
POST /v1/embeddings         inference
POST /v1/rerank             inference
POST /v1/reranking          inference
POST /v2/rerank             inference
POST /v1/messages           inference
POST /v1/messages/count_tokens inference
POST /v1/responses inference
POST /v1/responses/input_tokens inference
POST /v1/responses/compact inference
GET /v1/responses/{id} inference
DELETE /v1/responses/{id} inference
GET /v1/responses/{id}/input_items inference
POST /v1/responses/{id}/cancel inference
GET  /openapi.json          viewer inference
GET  /models                viewer inference
GET  /models/{model:.+}     viewer inference
POST /chat/completions      inference
POST /tokenize              inference
POST /detokenize            inference
POST /apply-template        inference
POST /completions           inference
POST /embeddings            inference
POST /rerank                inference
POST /reranking             inference
POST /messages              inference
POST /messages/count_tokens inference
POST /responses inference
POST /responses/input_tokens inference
POST /responses/compact inference
GET /responses/{id} inference
DELETE /responses/{id} inference
GET /responses/{id}/input_items inference
POST /responses/{id}/cancel inference
"""


def expected() -> dict[tuple[str, str], frozenset[str]]:
    rows = (line.split() for line in EXPECTED.split("\n") if line)
    return {
        (method, path): frozenset(role for role, letter in zip(ROLES, marks, strict=True) if letter != ".")
        for method, path, marks in rows
    }


def test_the_table_is_written_in_the_order_of_the_roles() -> None:
    assert ROLES == ("viewer", "operator", "security", "auditor")


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {(route.method, route.path): route.roles for route in ROUTES} == expected()


def test_no_two_routes_are_the_same() -> None:
    # Names of parameters do not tell routes apart.
    places = [(route.method, re.sub(r"\{[^}]*\}", "{}", route.path)) for route in ROUTES]
    assert len(places) == len(set(places))


def test_every_action_has_a_name_of_its_own() -> None:
    actions = [route.action for route in ROUTES]
    assert len(actions) == len(set(actions))
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", action) for action in actions)


def test_what_cannot_be_planned_or_shared() -> None:
    posts = [route for route in ROUTES if route.method == "POST"]
    assert {route.action for route in posts if not route.plans} == NOT_PLANNED
    assert {route.action for route in posts if route.alone} == ALONE
    check_two_persons([route.action for route in posts if not route.alone], ROUTES)


async def stub(call: Call) -> Answer:
    return call.answer(sorted(call.administrator.roles))


class Doors:
    """Every real route with its real checks, and nothing behind."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.roles: frozenset[AdminRole] = frozenset()

    async def knock(self, route: Route, *, key: bool = True) -> tuple[int, str]:
        """Status and error code."""
        path = "/admin/v1" + re.sub(r"\{[^}]*\}", "x", route.path)
        headers = {"Idempotency-Key": uuid.uuid4().hex} if key else {}
        async with self.session.request(route.method, path, headers=headers) as answer:
            body = await answer.json()
            return answer.status, body["error"]["code"] if answer.status >= 400 else ""


@pytest.fixture
async def doors(state: StateDir) -> AsyncIterator[Doors]:
    desk = Desk(state, Config(), [dataclasses.replace(route, handler=stub, body=None) for route in ROUTES], state.run)

    def identify(http: web.Request) -> tuple[Administrator, datetime]:
        return Administrator("anna", opened.roles, 1001), desk.office.now()

    runner = web.AppRunner(desk.api.application(identify), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession("http://{}:{}".format(*runner.addresses[0][:2])) as session:
        opened = Doors(session)
        yield opened
    await runner.cleanup()
    desk.security.close()


async def test_each_role_passes_where_the_table_says_and_nowhere_else(doors: Doors) -> None:
    for role in (None, *ROLES):
        doors.roles = frozenset() if role is None else frozenset({role})
        for route in ROUTES:
            answer = await doors.knock(route)
            if role in expected()[(route.method, route.path)]:
                assert answer == (200, ""), (route.method, route.path, role)
            else:
                assert answer == (403, "forbidden"), (route.method, route.path, role)


async def test_all_roles_but_the_right_ones_are_still_none(doors: Doors) -> None:
    for route in ROUTES:
        doors.roles = frozenset(ROLES) - route.roles
        assert (await doors.knock(route))[0] == 403, route.path


async def test_every_post_asks_for_an_idempotency_key(doors: Doors) -> None:
    doors.roles = frozenset(ROLES)
    for route in ROUTES:
        answer = await doors.knock(route, key=False)
        assert answer == ((200, "") if route.method == "GET" else (400, "invalid")), route.path


def api_expected() -> dict[tuple[str, str], frozenset[str] | None]:
    rows = (line.split() for line in API_EXPECTED.split("\n") if line)
    return {(method, path): None if roles == ["everyone"] else frozenset(roles) for method, path, *roles in rows}


def test_every_route_of_the_api_has_a_row() -> None:
    routes = list(api_routes())
    assert {(route.method, route.path): route.roles for route in routes} == api_expected()
    assert len(routes) == len(api_expected())


async def test_the_api_lets_each_role_do_what_the_table_says_and_nothing_else() -> None:
    roles = {"tester": PrincipalSettings(role="viewer"), "other": PrincipalSettings(role="inference")}
    async with running_api(principals=roles, preload=False) as api:
        for name, header in (("tester", "Bearer good"), ("other", "Bearer other"), (None, "Bearer wrong")):
            for (method, path), allowed in api_expected().items():
                path = path.replace("{model:.+}", "demo").replace("{id}", "resp_1")
                async with api.session.request(method, path, headers={"Authorization": header}, json={}) as answer:
                    error = (await answer.json()).get("error", {}) if answer.status >= 400 else {}
                    # Anthropic's shape has it among the details.
                    code = error.get("code") or error.get("details", {}).get("error_code")
                if allowed is None:
                    assert code not in ("role_not_allowed", "invalid_api_key"), (path, name)
                elif name is None:
                    assert code == "invalid_api_key", path
                elif roles[name].role in allowed:
                    assert code not in ("role_not_allowed", "invalid_api_key", "route_not_found"), (path, name)
                else:
                    assert (answer.status, code) == (403, "role_not_allowed"), (path, name)
