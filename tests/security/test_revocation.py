"""Revoking while the client is at work: its streams end within a second, nobody else's do, and it survives kill -9."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from appliance.admin_client import AdminClient
from tests.e2e.appliance_process import Appliance, run_command
from tests.security.daemons import (
    CUT_SECONDS_MAX,
    add_client,
    admin_of,
    audited,
    caller,
    refusal,
    scripted_appliance,
    seconds_to_cut,
    status,
    stream,
    tls_of,
    token_for,
    trust_issuer,
)

_log = logging.getLogger(__name__)

# The id of a token may be anything that its issuer likes.
STOLEN = "urn:token/a?b=ü&c"


async def revoke_key(admin: AdminClient) -> Any:
    (key,) = await admin.get("/keys", principal="thief")
    return await admin.post(f"/keys/{key['kid']}/revoke", {"reason": "found on a wall"})


async def revoke_certificate(admin: AdminClient) -> Any:
    issued = (await admin.get("/certificates"))["issued"]
    (serial,) = [one["serial"] for one in issued if one["name"] == "thief"]
    return await admin.post("/certificates/revoke", {"certificate": serial})


async def revoke_client(admin: AdminClient) -> Any:
    return await admin.post("/clients/thief/revoke", {})


REVOCATIONS: dict[str, tuple[Callable[[AdminClient], Awaitable[Any]], str]] = {
    "key": (revoke_key, "invalid_api_key"),
    "certificate": (revoke_certificate, "certificate_rejected"),
    "client": (revoke_client, "access_revoked"),
}


@pytest.mark.parametrize(
    "what", ["key", *(pytest.param(one, marks=pytest.mark.slow) for one in ("certificate", "client"))]
)
@pytest.mark.slow
async def test_revoked_at_work(tmp_path: Path, what: str) -> None:
    revoke, code = REVOCATIONS[what]
    with scripted_appliance(tmp_path / "a") as appliance:
        await add_client(appliance, "thief")
        async with (
            caller(appliance, "thief") as thief,
            caller(appliance, "thief") as idle,
            caller(appliance) as good,
            admin_of(appliance) as admin,
            stream(thief) as stolen,
            stream(good) as honest,
        ):
            assert await status(idle) == 200
            async with asyncio.TaskGroup() as group:
                cut = group.create_task(seconds_to_cut(stolen, time.monotonic()))
                answer = await revoke(admin)
            _log.info("%s: cut %.0f ms after the command began", what, cut.result() * 1000)
            assert cut.result() < CUT_SECONDS_MAX
            # The running stream's connection and the idle one.
            assert answer["cut"] == 2
            for session in (idle, thief):
                assert await refusal(session) == (401, code)
            assert await honest.content.readline()
            assert await status(good) == 200


@pytest.mark.slow
@pytest.mark.parametrize("what", REVOCATIONS)
async def test_an_answered_command_survives_kill_9(tmp_path: Path, what: str) -> None:
    revoke, code = REVOCATIONS[what]
    with scripted_appliance(tmp_path / "a") as appliance:
        await add_client(appliance, "thief")
        async with admin_of(appliance) as admin:
            await revoke(admin)
            appliance.kill()
    assert [one.outcome for one in audited(appliance, f"{what}.revoke")] == ["ok", "allow"]
    with scripted_appliance(tmp_path / "a") as appliance:
        async with caller(appliance, "thief") as thief, caller(appliance) as good:
            assert await refusal(thief) == (401, code)
            assert await status(good) == 200


@pytest.mark.slow
async def test_a_revoked_token(tmp_path: Path) -> None:
    """By the command line. Another token of the same principal goes on."""
    config = trust_issuer(tmp_path / "a") + "principals: {demo: {}}\n"
    stolen, kept = token_for("demo", STOLEN), token_for("demo", "kept")
    with scripted_appliance(tmp_path / "a", config) as appliance:
        async with (
            caller(appliance, authorization=stolen) as thief,
            caller(appliance, authorization=kept) as good,
            stream(thief) as cut,
            stream(good) as honest,
        ):
            revoked = await asyncio.to_thread(
                run_command, "keys", "revoke-token", STOLEN, "--yes", "--state-dir", appliance.state
            )
            assert f"{STOLEN}: revoked; 1 connection ended" in revoked.stdout, revoked.stderr
            await seconds_to_cut(cut, time.monotonic())
            appliance_answers = await refusal(thief)
            assert appliance_answers == (401, "invalid_api_key")
            assert await honest.content.readline()
        appliance.kill()
    with scripted_appliance(tmp_path / "a", config) as appliance:
        async with caller(appliance, authorization=stolen) as thief, caller(appliance, authorization=kept) as good:
            assert await refusal(thief) == (401, "invalid_api_key")
            assert await status(good) == 200


@pytest.mark.slow
async def test_a_revoked_client_cannot_resume(tmp_path: Path) -> None:
    """There is no session to resume: a resumed one would skip the check of the certificate."""
    with scripted_appliance(tmp_path / "a") as appliance:
        await add_client(appliance, "thief")
        tls = tls_of(appliance, "thief")
        session, _ = await asyncio.to_thread(_ask_once, appliance, tls, None)
        async with admin_of(appliance) as admin:
            await revoke_certificate(admin)
        _, answer = await asyncio.to_thread(_ask_once, appliance, tls, session)
        assert answer.startswith(b"HTTP/1.1 401 ")


def _ask_once(
    appliance: Appliance, tls: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bytes]:
    """One request, if it can be on a session resumed, and the session that comes of it."""
    address = urlsplit(appliance.url)
    assert address.hostname and address.port
    with (
        socket.create_connection((address.hostname, address.port)) as plain,
        tls.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
    ):
        assert not connection.session_reused
        key = appliance.key("thief")
        connection.sendall(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        answer = connection.recv(65536)
        assert connection.session is None or not connection.session.has_ticket
        return connection.session, answer
