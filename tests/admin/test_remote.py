"""The remote admin port: a gate of its own, mutual TLS, and the roles that appliance.yaml gives to names."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from appliance.access_config import Admin, RemoteAdmin
from appliance.admin_client import AdminClient, route
from appliance.config import Config
from appliance.front_door import FrontDoor
from appliance.remote_admin import remote_admin
from appliance.security.bundle_folder import write_bundle
from appliance.state_dir import StateDir
from tests.admin.desk import Desk, refused

CONFIG = Config(
    admin=Admin(
        remote=RemoteAdmin(allow=("127.0.0.1",), administrators={"anna": ("security",), "ben": ("viewer", "auditor")})
    )
)


class Branch:
    """A desk with its remote port."""

    def __init__(self, desk: Desk, port: int, folder: Path) -> None:
        self.desk = desk
        self.folder = folder
        self.url = f"https://localhost:{port}"

    def client(self, name: str, stem: str = "admin") -> AdminClient:
        bundle = self.folder / name
        context = ssl.create_default_context(cafile=bundle / "ca.crt")
        context.load_cert_chain(bundle / f"{stem}.crt", bundle / f"{stem}.key")
        return AdminClient.remote(self.url, context)

    async def issue(self, name: str) -> None:
        async with self.desk.client() as root:
            answer = await root.post("/certificates", {"name": name, "kind": "admin"})
        self.write(name, answer["files"])

    def write(self, name: str, files: Mapping[str, str]) -> None:
        write_bundle(self.folder / name, {file: text.encode() for file, text in files.items()})


@pytest.fixture
async def branch(state: StateDir, tmp_path: Path) -> AsyncIterator[Branch]:
    async with Desk.open(state, CONFIG) as desk:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
            door = FrontDoor(desk.office, {})
            desk.office.cut = door.cut
            branch = Branch(desk, listening.getsockname()[1], tmp_path / "bundles")
            async with remote_admin(desk.api, desk.office, door, listening):
                await branch.issue("anna")
                yield branch
                await door.close()


async def test_a_certificate_gives_the_name_and_appliance_yaml_the_roles(branch: Branch) -> None:
    await branch.issue("ben")
    await branch.issue("carl")
    async with branch.client("anna") as anna, branch.client("ben") as ben, branch.client("carl") as carl:
        assert await anna.get("/whoami") == {"name": "anna", "uid": None, "roles": ["security"]}
        assert (await ben.get("/whoami"))["roles"] == ["auditor", "viewer"]
        assert (await refused(ben.get("/keys"))).code == "forbidden"
        assert "has none" in str(await refused(carl.get("/whoami")))
        await anna.post("/keys", {"principal": "demo"})
    (made,) = [
        record for record in await branch.desk.records() if (record.action, record.outcome) == ("key.create", "ok")
    ]
    assert (made.actor.principal, made.actor.address, made.actor.uid) == ("anna", "127.0.0.1", None)
    assert made.actor.credential


async def test_changes_can_be_made_while_somebody_is_connected(branch: Branch) -> None:
    """Who must go is asked of every open connection, those of administrators included."""
    async with branch.client("anna") as anna:
        await anna.get("/whoami")
        assert await anna.post(route("clients", "anna", "revoke")) if False else await anna.post("/peppers/rotate")
        assert (await anna.post(route("clients", "demo", "revoke")))["cut"] == 0
        assert (await anna.get("/whoami"))["name"] == "anna"


async def test_a_client_of_the_same_name_is_somebody_else(branch: Branch) -> None:
    async with branch.client("anna") as anna:
        branch.write("client", (await anna.post("/clients", {"name": "anna"}))["files"])
        await anna.post(route("clients", "anna", "revoke"))
        assert (await anna.get("/whoami"))["name"] == "anna"
    async with branch.client("client", "client") as client:
        assert (await refused(client.get("/whoami"))).code == "unreachable", "not even through the handshake"


async def test_a_revoked_certificate_ends_its_connection_and_makes_no_other(branch: Branch) -> None:
    async with branch.client("anna") as anna, branch.desk.client() as root:
        await anna.get("/whoami")
        issued = next(one for one in (await root.get("/certificates"))["issued"] if one["kind"] == "admin")
        assert (await root.post("/certificates/revoke", {"certificate": issued["serial"]}))["cut"] == 1
        assert (await refused(anna.get("/whoami"))).code == "certificate_rejected"
        assert (await refused(anna.post("/peppers/rotate"))).code == "certificate_rejected"
    denied = [record for record in await branch.desk.records() if record.outcome == "deny"]
    assert ("connection.refuse", "127.0.0.1") in {(record.action, record.actor.address) for record in denied}


async def test_who_comes_over_tcp_confirms_over_a_new_connection_too(branch: Branch) -> None:
    async with branch.client("anna") as anna:
        await anna.post("/allowlist/stage", {"add": [{"network": "192.0.2.0/24"}]})
        await anna.post("/allowlist/apply")
        assert "new connection" in str(await refused(anna.post("/allowlist/confirm")))
    async with branch.client("anna") as anna:
        await anna.post("/allowlist/confirm")


async def test_an_authority_of_administrators_that_is_replaced_ends_the_connections_of_the_old_one(
    branch: Branch,
) -> None:
    async with branch.client("anna") as old, branch.desk.client() as root:
        await old.get("/whoami")
        for step in ("start", "issue"):
            assert (await root.post(route("authorities", "admin", "rotation"), {"step": step}))["cut"] == 0
        error = await refused(root.post(route("authorities", "admin", "rotation"), {"step": "finalize"}))
        assert (error.code, "anna" in str(error)) == ("needs_force", True)
        answer = await root.post(route("authorities", "admin", "rotation"), {"step": "finalize", "force": True})
        assert answer["cut"] == 1
        assert (await refused(old.get("/whoami"))).code == "unreachable"
        await branch.issue("anna")
    async with branch.client("anna") as new:
        assert (await new.get("/whoami"))["name"] == "anna"


async def test_no_certificate_no_connection(branch: Branch) -> None:
    context = ssl.create_default_context(cafile=branch.folder / "anna" / "ca.crt")
    async with AdminClient.remote(branch.url, context) as stranger:
        assert (await refused(stranger.get("/whoami"))).code == "unreachable"
