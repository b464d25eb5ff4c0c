"""The admin API over TCP: for certificates of administrators alone, with the roles that appliance.yaml gives them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.admin_client import AdminClient, AdminError
from tests.e2e.appliance_process import Appliance, run_command
from tests.ports import free_port
from tests.security.daemons import (
    add_client,
    admin_of,
    caller,
    listening_ports,
    record,
    refusal,
    scripted_appliance,
    status,
    stream,
    tls_of,
)

pytestmark = pytest.mark.slow


class Remote:
    """An appliance with a remote admin port, and administrators with certificates."""

    def __init__(self, appliance: Appliance, port: int) -> None:
        self.appliance = appliance
        self.url = f"https://127.0.0.1:{port}"

    def tls(self, name: str) -> ssl.SSLContext:
        bundle = self.appliance.bundle(f"admin-{name}")
        context = ssl.create_default_context(cafile=str(bundle / "ca.crt"))
        context.load_cert_chain(bundle / "admin.crt", bundle / "admin.key")
        return context

    def admin(self, name: str) -> AdminClient:
        return AdminClient.remote(self.url, self.tls(name))

    @asynccontextmanager
    async def session(self, tls: ssl.SSLContext, source: str = "127.0.0.1") -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(ssl=tls, local_addr=(source, 0))
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            yield session

    def command(self, name: str, *arguments: str) -> Any:
        env = {
            "APPLIANCE_ADMIN_URL": self.url,
            "APPLIANCE_ADMIN_BUNDLE": str(self.appliance.bundle(f"admin-{name}")),
        }
        return run_command(*arguments, env=env)


def config_with(
    port: int, administrators: str = "{anna: [security, operator], vera: [viewer], mallory: [viewer]}"
) -> str:
    return (
        "listeners: {api: {allow: [127.0.0.0/8]}}\n"
        f"admin: {{remote: {{port: {port}, allow: [127.0.0.1], administrators: {administrators}}}}}\n"
    )


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    port = free_port()
    with scripted_appliance(tmp_path_factory.mktemp("remote") / "a", config_with(port)) as appliance:
        for name in ("anna", "vera", "nobody"):
            issued = run_command("certs", "issue", name, "--admin", "--state-dir", appliance.state)
            assert issued.returncode == 0, issued.stderr
        yield Remote(appliance, port)


async def test_roles_come_from_the_configuration(remote: Remote) -> None:
    for name, roles in (("anna", ["operator", "security"]), ("vera", ["viewer"])):
        async with remote.admin(name) as admin:
            assert await admin.get("/whoami") == {"name": name, "uid": None, "roles": roles}
    async with remote.admin("anna") as anna:
        assert await anna.get("/keys")
        with pytest.raises(AdminError, match="needs the role auditor"):
            await anna.get("/audit/head")
    for name in ("vera", "nobody"):
        async with remote.admin(name) as admin:
            with pytest.raises(AdminError) as refused:
                await admin.post("/keys", {"principal": "demo"})
            assert refused.value.code == "forbidden"
    denied = await record(remote.appliance, "key.create", "deny")
    assert denied.actor.principal == "nobody"
    assert denied.actor.address == "127.0.0.1"


async def test_by_the_command_line(remote: Remote) -> None:
    shown = await asyncio.to_thread(remote.command, "vera", "whoami")
    assert shown.stdout == "vera: viewer\n", shown.stderr
    added = await asyncio.to_thread(remote.command, "anna", "keys", "add", "demo", "--label", "far away")
    assert added.returncode == 0, added.stderr
    assert added.stdout.startswith("apl_sk_")
    refused = await asyncio.to_thread(remote.command, "vera", "keys", "add", "demo")
    assert refused.returncode == 1
    assert "needs the role security" in refused.stderr
    done = await record(remote.appliance, "key.create", "ok")
    assert (done.actor.principal, done.actor.uid) == ("anna", None)


async def test_a_client_is_no_administrator(remote: Remote) -> None:
    """Neither its certificate, nor its API key, nor nothing at all gets in."""
    key = {"Authorization": f"Bearer {remote.appliance.key()}"}
    for client in ("demo", None):
        async with remote.session(tls_of(remote.appliance, client)) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get("/admin/v1/whoami", headers=key)
    async with remote.session(remote.tls("nobody")) as session, session.get("/admin/v1/keys", headers=key) as answer:
        assert answer.status == 403


async def test_an_administrator_is_no_client(remote: Remote) -> None:
    appliance = remote.appliance
    connector = aiohttp.TCPConnector(ssl=remote.tls("anna"))
    async with aiohttp.ClientSession(appliance.url, connector=connector) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get("/v1/models", headers={"Authorization": f"Bearer {appliance.key()}"})


async def test_an_address_that_is_not_listed(remote: Remote) -> None:
    async with remote.session(remote.tls("anna"), source="127.0.0.2") as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get("/admin/v1/whoami")


async def test_a_change_keeps_its_own_connection(remote: Remote) -> None:
    """Ending what must end asks about every open connection, an administrator's among them, whatever it is called."""
    appliance = remote.appliance
    await add_client(appliance, "anna")
    async with remote.admin("anna") as anna, caller(appliance, "anna") as client, stream(client):
        assert (await anna.get("/whoami"))["name"] == "anna"
        assert (await anna.post("/clients/anna/revoke", {}))["cut"] == 1
        assert (await anna.get("/whoami"))["name"] == "anna"
        assert await refusal(client) == (401, "access_revoked")
        async with caller(appliance) as good:
            assert await status(good) == 200


async def test_a_revoked_administrator(remote: Remote) -> None:
    appliance = remote.appliance
    assert run_command("certs", "issue", "mallory", "--admin", "--state-dir", appliance.state).returncode == 0
    async with remote.admin("mallory") as mallory, remote.admin("anna") as anna, admin_of(appliance) as local:
        assert (await mallory.get("/whoami"))["name"] == "mallory"
        assert (await anna.get("/whoami"))["name"] == "anna"
        issued = (await local.get("/certificates"))["issued"]
        (serial,) = [one["serial"] for one in issued if (one["kind"], one["name"]) == ("admin", "mallory")]
        assert (await local.post("/certificates/revoke", {"certificate": serial}))["cut"] == 1
        with pytest.raises(AdminError) as refused:
            await mallory.get("/whoami")
        assert refused.value.code == "certificate_rejected"
        assert (await anna.get("/whoami"))["name"] == "anna"


async def test_the_admin_authority_is_rotated(remote: Remote) -> None:
    """An administrator who rotates it is not cut off before `finalize`, and is after it, with the old certificate."""
    appliance = remote.appliance
    async with remote.admin("anna") as anna, admin_of(appliance) as local:
        for step in ("start", "issue"):
            await anna.post("/authorities/admin/rotation", {"step": step})
            async with remote.admin("anna") as again:
                assert (await again.get("/whoami"))["name"] == "anna"
        with pytest.raises(AdminError) as refused:
            await anna.post("/authorities/admin/rotation", {"step": "finalize"})
        assert (refused.value.code, "anna" in str(refused.value)) == ("needs_force", True)
        renewed = await local.post("/certificates", {"name": "anna", "kind": "admin"})
        bundle = appliance.bundle("admin-anna")
        for file, text in renewed["files"].items():
            (bundle / file).write_text(text)
        async with remote.admin("anna") as new:
            assert (await new.get("/whoami"))["name"] == "anna"
            await new.post("/authorities/admin/rotation", {"step": "finalize", "force": True})
            assert (await new.get("/whoami"))["name"] == "anna"
        with pytest.raises(AdminError):
            await anna.get("/whoami")
        assert "Traceback" not in appliance.log


async def test_a_reload_changes_who_administers(remote: Remote) -> None:
    """Names and roles count at once; where the port is, and whether, only after a restart."""
    appliance = remote.appliance
    port = int(remote.url.rpartition(":")[2])
    path = appliance.folder / "appliance.yaml"
    async with remote.admin("anna") as anna, admin_of(appliance) as local:
        path.write_text(config_with(port, "{anna: [viewer]}"))
        await local.post("/reload", {})
        assert (await anna.get("/whoami"))["roles"] == ["viewer"]
        for text in (config_with(port + 1), "listeners: {api: {allow: [127.0.0.0/8]}}\n"):
            path.write_text(text)
            with pytest.raises(AdminError, match="only with a restart"):
                await local.post("/reload", {})
            assert (await anna.get("/whoami"))["roles"] == ["viewer"]
        path.write_text(config_with(port, "{vera: [viewer]}"))
        await local.post("/reload", {})
        with pytest.raises(AdminError, match="anna has none"):
            await anna.get("/whoami")
        path.write_text(config_with(port))
        await local.post("/reload", {})
        async with remote.admin("anna") as again:
            assert (await again.get("/whoami"))["roles"] == ["operator", "security"]
        assert "Traceback" not in appliance.log


async def test_off_by_default(tmp_path: Path) -> None:
    with scripted_appliance(tmp_path / "a") as appliance:
        assert len(listening_ports(appliance)) == 1
        refused = run_command("whoami", env={"APPLIANCE_ADMIN_URL": appliance.url, "APPLIANCE_ADMIN_BUNDLE": ""})
        assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
