"""Reading appliance.yaml again: all of it or nothing, by command or by SIGHUP, and nothing is dropped for it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.admin_client import AdminError
from appliance.security.certificates import certificate_pem
from tests.e2e.appliance_process import Appliance, run_command
from tests.security.authorities import ForeignCa
from tests.security.daemons import (
    admin_of,
    ask,
    audited,
    caller,
    refusal,
    scripted_appliance,
    status,
    stream,
    text_of,
    trust_issuer,
    until,
)

GOOD = """\
listeners: {api: {allow: [127.0.0.0/8]}}
principals: {demo: {requests_per_minute: 1000}}
"""
LISTENER = "listeners: {api: {allow: [127.0.0.0/8]}}\n"

# What must not be taken over, and a part of what is said about it.
REJECTED = {
    "no YAML": ("listeners: [", "not valid YAML"),
    "unknown key": (GOOD + "princpals: {}\n", "did you mean 'principals'?"),
    "wrong type": ("listeners: {api: {allow: 5}}\n", "expected a list"),
    "another host": ("listeners: {api: {host: 127.0.0.2, allow: [127.0.0.0/8]}}\n", "only with a restart"),
    "one more listener": (LISTENER[:-2] + ", b: {port: 8555}}\n", "only with a restart"),
    "no network": ("listeners: {api: {allow: [127.0.0.0/8, 10.0.0.5/8]}}\n", "10.0.0.5/8"),
    "no network for administrators": (
        LISTENER + "admin: {remote: {allow: [10.0.0.5/8], administrators: {}}}\n",
        "admin.remote.allow: '10.0.0.5/8'",
    ),
    "a remote port more": (
        LISTENER + "admin: {remote: {allow: [127.0.0.1], administrators: {}}}\n",
        "admin.remote: host and port change only with a restart",
    ),
    "a misspelt action": (LISTENER + "admin: {two_persons: [key.revok]}\n", "did you mean 'key.revoke'"),
    "no name": ("listeners: {api: {allow: [127.0.0.0/8], names: ['*bad*']}}\n", "names"),
    "no principal's network": (LISTENER + "principals: {demo: {allow: [10.0.0.5/8]}}\n", "principals.demo.allow"),
    "everyone with a key": ("listeners: {api: {mode: key}}\n", "say who may connect"),
    "trust without a file": (LISTENER + "certificates: {trust: [none.pem]}\n", "none.pem cannot be read"),
    "trust in text": (LISTENER + "certificates: {trust: [text.pem]}\n", "text.pem"),
    "trust that anybody may change": (LISTENER + "certificates: {trust: [open.pem]}\n", "open.pem"),
    "half a bundle": (LISTENER + "certificates: {trust: [half.pem]}\n", "half.pem"),
    "an issuer's private key": (
        LISTENER + "jwt: [{issuer: a, audience: b, keys: [private.pem], algorithms: [EdDSA]}]\n",
        "private key",
    ),
    "an issuer's key that anybody may change": (
        LISTENER + "jwt: [{issuer: a, audience: b, keys: [open.pem], algorithms: [EdDSA]}]\n",
        "open.pem",
    ),
    "shut out": ("listeners: {api: {allow: [127.0.0.2]}}\n", "would be shut out: 127.0.0.1"),
}


@dataclass(frozen=True, slots=True)
class Configured:
    """A running appliance whose appliance.yaml a test rewrites."""

    appliance: Appliance

    def write(self, text: str) -> None:
        (self.appliance.folder / "appliance.yaml").write_text(text)

    async def reload(self, *options: str) -> Any:
        return await asyncio.to_thread(
            run_command,
            "reload",
            "--state-dir",
            self.appliance.state,
            *options,
        )


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    folder = tmp_path_factory.mktemp("reload") / "a"
    trust_issuer(folder)
    pem = certificate_pem(ForeignCa().certificate)
    (folder / "text.pem").write_text("no certificate")
    (folder / "open.pem").write_bytes(pem)
    (folder / "open.pem").chmod(0o666)
    (folder / "half.pem").write_bytes(pem + pem[: len(pem) // 2])
    (folder / "private.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    with scripted_appliance(folder, GOOD) as appliance:
        yield Configured(appliance)


@pytest.mark.slow
@pytest.mark.parametrize("what", REJECTED)
async def test_rejected(configured: Configured, what: str) -> None:
    """Refused with a sentence; the old configuration serves on; audited; degraded until a good one comes."""
    text, says = REJECTED[what]
    appliance = configured.appliance
    async with caller(appliance) as good, admin_of(appliance) as admin:
        assert await status(good) == 200
        generation = (await admin.get("/status"))["generation"]
        configured.write(text)
        with pytest.raises(AdminError) as refused:
            await admin.post("/reload", {})
        assert says in str(refused.value)
        assert "Traceback" not in appliance.log
        assert await status(good) == 200

        async def told() -> bool:
            return any(says in (one.reason or "") for one in audited(appliance, "config.rejected"))

        await until(told)
        found = await admin.get("/status")
        assert found["generation"] == generation
        assert any("the last reload was refused" in reason for reason in found["degraded"])
        configured.write(GOOD)
        await admin.post("/reload", {})
        assert (await admin.get("/status"))["degraded"] == []
        async with caller(appliance) as fresh:
            assert await status(fresh) == 200


@pytest.mark.slow
async def test_rejected_by_command(configured: Configured) -> None:
    """Exit code 1 of `reload`, and of `status` until a good one comes."""
    for what, code in (("no network", 1), ("", 0)):
        configured.write(REJECTED[what][0] if what else GOOD)
        reloaded = await configured.reload()
        assert (reloaded.returncode, "Traceback" in reloaded.stderr) == (code, False)
        shown = await asyncio.to_thread(run_command, "status", "--state-dir", configured.appliance.state)
        assert shown.returncode == code


@pytest.mark.slow
@pytest.mark.parametrize("what", ["no YAML", "no network", "trust without a file", "shut out"])
async def test_rejected_by_signal(configured: Configured, what: str) -> None:
    text, says = REJECTED[what]
    appliance = configured.appliance
    async with caller(appliance) as good, admin_of(appliance) as admin:
        assert await status(good) == 200
        before = len(audited(appliance, "config.rejected"))
        configured.write(text)
        appliance.process.send_signal(signal.SIGHUP)

        async def rejected() -> bool:
            return len(audited(appliance, "config.rejected")) > before

        await until(rejected)

        async def ill() -> bool:
            return bool((await admin.get("/status"))["degraded"])

        await until(ill)
        appliance.wait_for(says)
        assert await status(good) == 200
        configured.write(GOOD)
        appliance.process.send_signal(signal.SIGHUP)

        async def well() -> bool:
            return not (await admin.get("/status"))["degraded"]

        await until(well)


@pytest.mark.slow
async def test_taken_over_under_load(configured: Configured) -> None:
    """Limits, models and roles change with the reload; hammering clients and a stream do not notice."""
    appliance = configured.appliance
    failed: list[int] = []
    served = 0

    async def hammer(stop: asyncio.Event) -> None:
        nonlocal served
        async with caller(appliance) as session:
            while not stop.is_set():
                if (code := await status(session)) != 200:
                    failed.append(code)
                served += 1

    script = " ".join(f"say:{number}_ sleep:0.01" for number in range(300))
    base = "listeners: {api: {allow: [127.0.0.0/8]}}\n"
    stop = asyncio.Event()
    async with admin_of(appliance) as admin, caller(appliance) as session:
        async with asyncio.TaskGroup() as group, ask(session, script, stream=True) as answer:
            for _ in range(4):
                group.create_task(hammer(stop))
            for number in range(50):
                configured.write(base + f"principals: {{demo: {{requests_per_minute: {100_000 + number}}}}}\n")
                assert (await admin.post("/reload", {}))["cut"] == 0
                async with ask(session) as limited:
                    assert limited.headers["x-ratelimit-limit-requests"] == str(100_000 + number)
            stop.set()
            said = text_of((await answer.read()).decode())
        assert said == "".join(f"{number} " for number in range(300))
        assert (failed, served > 50) == ([], True)
        configured.write(base + "principals: {demo: {role: viewer}}\n")
        await admin.post("/reload", {})
        assert await refusal(session) == (403, "role_not_allowed")
        configured.write(base + "principals: {demo: {models: [other]}}\n")
        await admin.post("/reload", {})
        assert await refusal(session) == (404, "model_not_found")
        configured.write(GOOD)
        await admin.post("/reload", {})
        assert await status(session) == 200


@pytest.mark.slow
async def test_addresses_that_are_taken_off_are_cut(configured: Configured) -> None:
    appliance = configured.appliance
    async with (
        caller(appliance, source="127.0.0.2") as removed,
        caller(appliance, source="127.0.0.3") as kept,
        caller(appliance, source="127.0.0.2") as idle,
        stream(removed) as lost,
        stream(kept) as honest,
        admin_of(appliance) as admin,
    ):
        assert await status(idle) == 200
        configured.write("listeners: {api: {allow: [127.0.0.1, 127.0.0.3]}}\n")
        refused = await configured.reload()
        assert refused.returncode == 1
        assert "127.0.0.2" in refused.stderr
        began = time.monotonic()
        forced = await configured.reload("--force")
        assert (forced.returncode, forced.stdout) == (0, "reloaded; 2 connections ended\n")
        with pytest.raises(aiohttp.ClientError):
            await lost.content.read()
        with pytest.raises(aiohttp.ClientError):
            await status(idle)
        assert time.monotonic() - began < 30
        assert await honest.content.readline()
        configured.write(GOOD)
        await admin.post("/reload", {})
        assert await status(idle) == 200


@pytest.mark.slow
async def test_a_stricter_mode_ends_what_was_let_in_without(tmp_path: Path) -> None:
    """A connection that has shown no certificate does not outlive the mode that asked for none."""
    key = "listeners: {api: {mode: key, allow: [127.0.0.0/8]}}\n"
    with scripted_appliance(tmp_path / "a", key) as appliance:
        bearer = f"Bearer {appliance.key()}"
        async with (
            caller(appliance, None, authorization=bearer) as bare,
            caller(appliance, None, authorization=bearer) as idle,
            caller(appliance) as good,
            admin_of(appliance) as admin,
            stream(bare) as lost,
        ):
            assert await status(idle) == 200
            (appliance.folder / "appliance.yaml").write_text(LISTENER)
            assert (await admin.post("/reload", {}))["cut"] == 2
            with pytest.raises(aiohttp.ClientError):
                await lost.content.read()
            with pytest.raises(aiohttp.ClientError):
                await status(idle)
            assert await status(good) == 200
            (appliance.folder / "appliance.yaml").write_text(key)
            await admin.post("/reload", {})
            assert await status(idle) == 200
            assert "Traceback" not in appliance.log
