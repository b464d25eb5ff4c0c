"""Changing the allowlist of a running appliance: staged, refused where it locks out, on trial, undone, kept."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from appliance.admin_client import AdminClient, AdminError
from tests.e2e.appliance_process import Appliance, run_command
from tests.ports import free_port
from tests.security.daemons import (
    add_client,
    admin_of,
    caller,
    record,
    refusal,
    scripted_appliance,
    status,
    stream,
    tls_of,
    until,
)

pytestmark = pytest.mark.slow

# Longer than a command or a start takes on a machine that does much else.
TRIAL_SECONDS = 15
CONFIG = "listeners: {api: {allow: [127.0.0.1]}}\n"
OTHER = "127.0.0.2"


async def admit(admin: AdminClient, *networks: str) -> None:
    """Networks for good."""
    await admin.post("/allowlist/stage", {"add": [{"network": network} for network in networks]})
    await admin.post("/allowlist/apply", {"confirm_seconds": 0})


async def remove(admin: AdminClient, network: str, seconds: int) -> Any:
    """A network, on trial, whoever is shut out by it."""
    await admin.post("/allowlist/stage", {"remove": [network]})
    return await admin.post("/allowlist/apply", {"confirm_seconds": seconds, "force": True})


async def gets_in(appliance: Appliance, source: str) -> bool:
    """Whether a new connection from there is let in."""
    async with caller(appliance, source=source) as session:
        try:
            return await status(session) == 200
        except aiohttp.ClientError:
            return False


async def shut_out(appliance: Appliance, applied: Any) -> datetime:
    """Checks that OTHER is, as long as the trial in that answer lasts; when it ends."""
    ends = datetime.fromisoformat(applied["trial"]["revert_at"])
    let_in = await gets_in(appliance, OTHER)
    assert not let_in or datetime.now(UTC) >= ends
    return ends


async def test_a_trial_that_nobody_confirms(tmp_path: Path) -> None:
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:
        async with admin_of(appliance) as admin:
            assert not await gets_in(appliance, OTHER)
            await admit(admin, OTHER)
            async with caller(appliance, source=OTHER) as session, stream(session) as lost:
                await admin.post("/allowlist/stage", {"remove": [OTHER]})
                with pytest.raises(AdminError, match=f"would be shut out: {OTHER}"):
                    await admin.post("/allowlist/apply", {"confirm_seconds": 5})
                began = time.monotonic()
                applied = await admin.post("/allowlist/apply", {"confirm_seconds": 5, "force": True})
                assert applied["cut"] == 1
                with pytest.raises(aiohttp.ClientError):
                    await lost.content.read()
            await shut_out(appliance, applied)

            async def back() -> bool:
                return await gets_in(appliance, OTHER)

            await until(back)
            assert time.monotonic() - began > 4.9
            found = await admin.get("/allowlist")
            assert found["trial"] is None
            assert [entry["network"] for entry in found["staged"]["remove"]] == [f"{OTHER}/32"]
        reverted = await record(appliance, "allow.revert", "ok")
        assert reverted.actor.principal == "appliance"


async def test_an_entry_that_ends_while_it_is_used(tmp_path: Path) -> None:
    """Its end needs nobody: who came by it is cut off, others are not, and the audit log has it once."""
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:
        async with admin_of(appliance) as admin:
            await admit(admin, OTHER)
            async with (
                caller(appliance, source=OTHER) as guest,
                caller(appliance) as other,
                stream(guest) as lost,
                stream(other) as kept,
            ):
                # So long that it is applied before, on a slow machine too.
                staged = await admin.post("/allowlist/stage", {"extend": [{"network": OTHER, "for_seconds": 6}]})
                (entry,) = staged["staged"]["add"]
                applied = await admin.post("/allowlist/apply", {"confirm_seconds": 0})
                assert (applied["cut"], applied["ending_sooner"]) == (0, [{"address": OTHER, "until": entry["until"]}])
                with pytest.raises(aiohttp.ClientError):
                    await lost.content.read()
                assert datetime.now(UTC) >= datetime.fromisoformat(entry["until"])
                assert await kept.content.readany()
            assert not await gets_in(appliance, OTHER)
            assert await gets_in(appliance, "127.0.0.1")
            assert [one["ended"] for one in (await admin.get("/allowlist"))["entries"]] == [False, True]
        ended = await record(appliance, "allow.end", "ok")
        assert (ended.actor.principal, ended.details["ended"], ended.details["cut"]) == ("appliance", f"{OTHER}/32", 1)


async def test_confirmed_by_the_command_line(tmp_path: Path) -> None:
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:

        async def command(*arguments: str) -> str:
            done = await asyncio.to_thread(run_command, "allow", *arguments, "--state-dir", appliance.state)
            assert done.returncode == 0, done.stderr
            return done.stdout

        async with admin_of(appliance) as older:
            await command("add", f"::ffff:{OTHER}/128", "--comment", "written the long way")
            assert f"{OTHER} at api: is refused; staged: may connect" in await command("test", OTHER)
            await older.get("/whoami")
            assert "On trial until" in await command("apply", "--confirm", str(TRIAL_SECONDS))
            with pytest.raises(AdminError, match="over a new connection"):
                await older.post("/allowlist/confirm", {})
            assert await command("confirm") == "confirmed\n"
            await asyncio.sleep(TRIAL_SECONDS)
            assert await gets_in(appliance, OTHER)
            assert not await gets_in(appliance, "127.0.0.3")


@pytest.mark.parametrize("over", [True, False], ids=["its time is over", "its time is not over"])
async def test_killed_while_on_trial(tmp_path: Path, over: bool) -> None:
    """The next start does not wait to undo it once its time is over."""
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:
        async with admin_of(appliance) as admin:
            await admit(admin, OTHER)
            applied = await remove(admin, OTHER, 3 if over else TRIAL_SECONDS)
            ends = await shut_out(appliance, applied)
            appliance.kill()
    if over:
        await asyncio.sleep((ends - datetime.now(UTC)).total_seconds())
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:
        if over:
            assert await gets_in(appliance, OTHER)
        else:
            await shut_out(appliance, applied)

        async def back() -> bool:
            return await gets_in(appliance, OTHER)

        await until(back)


async def test_an_address_removed_while_it_shakes_hands(tmp_path: Path) -> None:
    """Whoever was accepted before, and finishes after."""
    with scripted_appliance(tmp_path / "a", CONFIG) as appliance:
        async with admin_of(appliance) as admin:
            await admit(admin, OTHER)
            finish = await asyncio.to_thread(_begin_handshake, appliance, OTHER)
            await remove(admin, OTHER, 0)
            answer = await asyncio.to_thread(finish)
            assert answer == b""


def _begin_handshake(appliance: Appliance, source: str) -> Callable[[], bytes]:
    """Half a handshake; the rest of it and a request, when it is called: what comes back."""
    address = urlsplit(appliance.url)
    plain = socket.create_connection((address.hostname or "", address.port or 0), source_address=(source, 0))
    plain.settimeout(60)
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = tls_of(appliance, "demo").wrap_bio(to_us, to_them, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    plain.sendall(to_them.read())
    to_us.write(plain.recv(65536))

    def finish() -> bytes:
        request = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {appliance.key()}\r\n\r\n"
        with plain:
            try:
                tls.do_handshake()
                tls.write(request.encode())
                plain.sendall(to_them.read())
                while data := plain.recv(65536):
                    to_us.write(data)
                    try:
                        return tls.read(65536)
                    except ssl.SSLWantReadError:
                        continue
            except (OSError, ssl.SSLError):
                pass
        return b""

    return finish


async def test_v4_mapped(tmp_path: Path) -> None:
    """At a dual-stack listener an IPv4 client arrives as ::ffff:a.b.c.d."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this host has no IPv6")
    config = "listeners: {api: {host: '::', allow: ['127.0.0.1', '::1']}}\n"
    with scripted_appliance(tmp_path / "a", config) as appliance:
        url = f"https://127.0.0.1:{urlsplit(appliance.url).port}"

        async def gets_in(source: str) -> bool:
            async with caller(appliance, source=source, url=url) as session:
                try:
                    return await status(session) == 200
                except aiohttp.ClientError:
                    return False

        assert await gets_in("127.0.0.1")
        assert not await gets_in(OTHER)
        async with caller(appliance, source="::1", url=f"https://[::1]:{urlsplit(appliance.url).port}") as session:
            assert await status(session) == 200
        async with admin_of(appliance) as admin:
            await admit(admin, f"::ffff:{OTHER}")
        assert await gets_in(OTHER)
        assert (await record(appliance, "connection.refuse", "deny")).actor.address == OTHER


async def test_a_principals_own_networks(tmp_path: Path) -> None:
    """They narrow its listener's; what a client says about forwarding does not count."""
    config = f"listeners: {{api: {{allow: [127.0.0.0/8]}}}}\nprincipals: {{demo: {{allow: [{OTHER}]}}}}\n"
    with scripted_appliance(tmp_path / "a", config) as appliance:
        await add_client(appliance, "other")
        async with caller(appliance, "other") as other, caller(appliance, source=OTHER) as good:
            assert (await status(other), await status(good)) == (200, 200)
        async with caller(appliance) as stranger:
            assert await refusal(stranger) == (403, "address_not_allowed")
            for forwarded in ([OTHER], [OTHER, "127.0.0.1"]):
                headers = [("X-Forwarded-For", address) for address in forwarded] + [("Forwarded", f"for={OTHER}")]
                async with stranger.get("/v1/models", headers=headers) as answer:
                    assert answer.status == 403


async def test_a_list_for_one_listener(tmp_path: Path) -> None:
    port = free_port()
    config = f"listeners: {{api: {{allow: [127.0.0.1]}}, second: {{port: {port}, allow: [127.0.0.1]}}}}\n"
    with scripted_appliance(tmp_path / "a", config) as appliance:
        async with admin_of(appliance) as admin:
            await admin.post("/allowlist/stage", {"add": [{"network": OTHER, "listener": "second"}]})
            await admin.post("/allowlist/apply", {"confirm_seconds": 0})
        assert not await gets_in(appliance, OTHER)
        async with caller(appliance, source=OTHER, url=f"https://127.0.0.1:{port}") as session:
            assert await status(session) == 200
