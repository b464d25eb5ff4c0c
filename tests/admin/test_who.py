"""Who gets to the admin socket, as whom, and what becomes of the socket's file. Other users are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import grp
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from appliance.access_config import Admin, AdminRole
from appliance.admin.app import AdminApi, Identify
from appliance.admin.unix_listener import SOCKET_MODE, unix_listener
from appliance.admin_client import AdminClient, is_served, route
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.state_dir import StateDir
from tests.admin.desk import Desk, client_of, connect_as, refused

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

# One group to get at the socket, and one for each role; any that every Debian has.
DOOR, VIEWERS, OPERATORS, SECURITY, AUDITORS = "users", "games", "mail", "adm", "audio"
GROUPS: dict[AdminRole, tuple[str, ...]] = {
    "viewer": (VIEWERS,),
    "operator": (OPERATORS,),
    "security": (SECURITY, "no-such-group"),
    "auditor": (AUDITORS,),
}
ANNA, BEN, CARL = 64_001, 64_002, 64_003


def gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


@pytest.fixture
def hall() -> Iterator[Path]:
    """A folder that everybody may pass through and whose files belong to the group DOOR, as /run/appliance is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, -1, gid(DOOR))
        folder.chmod(0o2755)
        yield folder


@contextlib.asynccontextmanager
async def open_hall(state: StateDir, hall: Path, **admin: object) -> AsyncIterator[Desk]:
    config = Config(admin=Admin(groups=GROUPS, **admin))  # type: ignore[arg-type]
    async with Desk.open(state, config, path=hall / "admin.sock") as desk:
        yield desk


async def whoami(path: Path, uid: int, *groups: str) -> dict[str, object]:
    async with client_of(connect_as(path, uid, [gid(DOOR), *map(gid, groups)])) as client:
        found: dict[str, object] = await client.get("/whoami")
        return found


@as_root
async def test_groups_decide_the_roles_of_real_users(state: StateDir, hall: Path) -> None:
    async with open_hall(state, hall) as desk:
        assert await whoami(desk.path, ANNA, SECURITY) == {"name": f"uid {ANNA}", "uid": ANNA, "roles": ["security"]}
        assert (await whoami(desk.path, BEN, VIEWERS, AUDITORS))["roles"] == ["auditor", "viewer"]
        async with client_of(connect_as(desk.path, CARL, [gid(DOOR), gid(OPERATORS)])) as carl:
            assert len(await carl.get("/keys")) == 1
            error = await refused(carl.post("/keys", {"principal": "demo"}))
            assert error.code == "forbidden"
            assert "needs the role security" in str(error)
            assert (await refused(carl.get("/audit/head"))).code == "forbidden"
        denied = [record for record in await desk.records() if record.outcome == "deny"]
        assert [(record.action, record.actor.uid, record.actor.role) for record in denied] == [
            ("key.create", CARL, "operator"),
            ("audit.head", CARL, "operator"),
        ]


@as_root
async def test_without_a_role_one_may_do_nothing_and_without_the_door_not_even_ask(state: StateDir, hall: Path) -> None:
    async with open_hall(state, hall) as desk:
        async with client_of(connect_as(desk.path, ANNA, [gid(DOOR)])) as anna:
            for path in ("/whoami", "/status", "/keys"):
                assert (await refused(anna.get(path))).code == "forbidden"
            assert "has none" in str(await refused(anna.get("/whoami")))
        with pytest.raises(PermissionError):
            connect_as(desk.path, ANNA, [gid(SECURITY)])


@as_root
async def test_nobody_gets_into_a_state_directorys_own_socket(desk: Desk) -> None:
    with pytest.raises(PermissionError):
        connect_as(desk.path, ANNA, [0, gid(SECURITY)])


async def test_root_and_the_daemons_own_user_have_every_role(desk: Desk, admin: AdminClient) -> None:
    assert (await admin.get("/whoami"))["roles"] == ["auditor", "operator", "security", "viewer"]


@as_root
async def test_a_reload_takes_a_role_away_on_open_connections_too(state: StateDir, hall: Path) -> None:
    async with open_hall(state, hall) as desk:
        anna = client_of(connect_as(desk.path, ANNA, [gid(DOOR), gid(SECURITY)]))
        async with anna:
            await anna.get("/keys")
            view, config = desk.office.access.view, Config(admin=Admin(groups={"viewer": (SECURITY,)}))
            configured = dataclasses.replace(view.configured, config=config)
            desk.office.access.replace(dataclasses.replace(view, configured=configured))
            assert (await anna.get("/whoami"))["roles"] == ["viewer"]
            assert (await refused(anna.get("/keys"))).code == "forbidden"


@as_root
async def test_two_persons_are_two_users(state: StateDir, hall: Path) -> None:
    async with open_hall(state, hall, two_persons=("client.revoke",)) as desk:
        door = [gid(DOOR), gid(SECURITY)]
        anna, again = client_of(connect_as(desk.path, ANNA, door)), client_of(connect_as(desk.path, ANNA, door))
        ben = client_of(connect_as(desk.path, BEN, door))
        async with anna, again, ben:
            revoke, body = route("clients", "demo", "revoke"), {"reason": "laptop stolen"}
            await anna.post(revoke, body, plan=True)
            error = await refused(anna.post(revoke, body))
            assert error.code == "needs_approval"
            (waiting,) = await ben.get("/approvals")
            assert (waiting["asked_by"], waiting["approved_by"]) == (f"uid {ANNA}", None)
            assert waiting["action"] == "client.revoke"
            assert waiting["resource"] == "/admin/v1/clients/demo/revoke"
            assert waiting["what"] == "reason: laptop stolen"
            approve = route("approvals", waiting["id"], "approve")

            own = await refused(again.post(approve))
            assert (own.code, "somebody else" in str(own)) == ("forbidden", True)
            assert (await refused(anna.post(revoke, body, approval=waiting["id"]))).code == "conflict"
            assert (await ben.post(approve))["approved_by"] == f"uid {BEN}"
            for who, what in ((ben, body), (anna, {"reason": "another"})):
                assert (await refused(who.post(revoke, what, approval=waiting["id"]))).code == "conflict"
            assert not desk.office.document.revocations
            assert (await anna.post(revoke, body, approval=waiting["id"]))["revoked"]
            assert (await refused(anna.post(revoke, body, approval=waiting["id"]))).code == "not_found"
            assert await anna.get("/approvals") == []
        records = await desk.records()
        about = {"approval": waiting["id"], "action": "client.revoke", "what": "reason: laptop stolen"}
        decided = [record for record in records if record.action == "approval.approve"]
        assert [(record.actor.uid, record.outcome) for record in decided] == [(ANNA, "deny"), (BEN, "ok")]
        assert all(record.details == {**about, "asked_by": f"uid {ANNA}"} for record in decided)
        assert "somebody else must approve" in (decided[0].reason or "")
        denied = [record for record in records if record.action == "client.revoke" and record.outcome == "deny"]
        assert [record.actor.uid for record in denied] == [ANNA, BEN, ANNA, ANNA]
        assert {record.details["approval"] for record in denied} == {waiting["id"]}
        actions = [(record.action, record.actor.uid) for record in records if record.outcome != "deny"]
        wanted = ["client.revoke.asked", "approval.approve", "client.revoke.approved", "client.revoke", "client.revoke"]
        told = [one for one in actions if one[0] in wanted]
        assert told[0] == ("client.revoke.asked", ANNA)
        assert ("approval.approve", BEN) in told
        assert told[-3:] == [("client.revoke.approved", ANNA), ("client.revoke", ANNA), ("client.revoke", ANNA)]


@as_root
async def test_an_approval_is_refused_or_ends_by_itself(state: StateDir, hall: Path) -> None:
    async with open_hall(state, hall, two_persons=("pepper.rotate",), approval_seconds=60) as desk:
        door = [gid(DOOR), gid(SECURITY)]
        async with client_of(connect_as(desk.path, ANNA, door)) as anna:
            assert (await refused(anna.post("/peppers/rotate"))).code == "needs_approval"
            (waiting,) = await anna.get("/approvals")
            async with desk.client() as root:
                rejected = await root.post(route("approvals", waiting["id"], "reject"))
                assert rejected["id"] == waiting["id"]
                assert (await refused(root.post(route("approvals", waiting["id"], "approve")))).code == "not_found"
                assert (await refused(anna.post("/peppers/rotate"))).code == "needs_approval"
                (waiting,) = await root.get("/approvals")
                await root.post(route("approvals", waiting["id"], "approve"))
                desk.clock.ahead = timedelta(seconds=61)
                error = await refused(anna.post("/peppers/rotate", approval=waiting["id"]))
                assert (error.code, "expired" in str(error)) == ("not_found", True)
        assert await desk.outcomes("approval.reject") == ["ok"]


# The socket's file.


async def test_its_mode_does_not_depend_on_the_umask(state: StateDir) -> None:
    for mask in (0o000, 0o022, 0o077):
        before = os.umask(mask)
        try:
            async with Desk.open(state) as desk:
                assert stat.S_IMODE(desk.path.stat().st_mode) == SOCKET_MODE == 0o660
                assert os.umask(mask) == mask
            assert not desk.path.exists()
        finally:
            os.umask(before)


async def test_what_a_daemon_left_behind_is_replaced(state: StateDir) -> None:
    path = state.run / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert not is_served(path)
    async with Desk.open(state) as desk:
        assert is_served(path)
        async with desk.client() as admin:
            assert await admin.get("/whoami")
    assert not is_served(path)


async def test_a_socket_that_somebody_serves_is_not_taken_away(state: StateDir, founded: Path, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        with pytest.raises(ConfigError, match="somebody else listens"):
            async with Desk.open(state, path=path):
                pass
        other.setblocking(False)
        other.accept()[0].close()
        assert is_served(path)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_no_socket_is_left_alone(state: StateDir, tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "precious", tmp_path / "target"
    target.write_text("keep me")
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    else:
        path.write_text("keep me")
    with pytest.raises(ConfigError, match="is no socket"):
        async with Desk.open(state, path=path):
            pass
    assert path.is_dir() if kind == "folder" else path.read_text() == "keep me"


async def test_a_path_that_no_socket_can_have(state: StateDir, tmp_path: Path) -> None:
    for path, says in ((tmp_path / ("x" * 120), "too long for a Unix socket"), (tmp_path / "no" / "s", "No such file")):
        with pytest.raises(ConfigError, match=says):
            async with Desk.open(state, path=path):
                pass


async def test_where_no_socket_can_be_nothing_is_left_running(desk: Desk) -> None:
    running: list[web.Application] = []

    class Watched(AdminApi):
        def application(self, identify: Identify) -> web.Application:
            async def start(app: web.Application) -> None:
                running.append(app)

            async def stop(app: web.Application) -> None:
                running.remove(app)

            app = super().application(identify)
            app.on_startup.append(start)
            app.on_cleanup.append(stop)
            return app

    with pytest.raises(ConfigError, match="somebody else listens"):
        async with unix_listener(Watched(desk.site, ()), desk.site, desk.path):
            pass
    assert not running


async def test_a_client_that_sends_and_goes_is_no_failure(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Two requests at once, and then nothing of their sender is left when the second is looked at."""
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(desk.path))
            client.sendall(b"GET /admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    await asyncio.sleep(0.05)
    async with desk.client() as admin:
        assert await admin.get("/whoami")
    assert not caplog.text
