"""From the old to the new of a key and of the client CA, in the running daemon: when which of them counts."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import aiohttp
import pytest

from appliance.admin_client import AdminError
from tests.e2e.appliance_process import Appliance
from tests.security.daemons import (
    add_client,
    admin_of,
    ask,
    caller,
    refusal,
    scripted_appliance,
    status,
    stream,
    write_files,
)

pytestmark = pytest.mark.slow

GRACE_SECONDS = 8


async def test_a_rotated_key(tmp_path: Path) -> None:
    """Both count during the grace, and the old one says until when; after it, it is a wrong key like any other."""
    with scripted_appliance(tmp_path / "a") as appliance:
        async with (
            admin_of(appliance) as admin,
            caller(appliance) as old,
            caller(appliance) as idle,
            stream(idle) as begun,
        ):
            async with ask(old) as answer:
                assert answer.status == 200
                assert "X-Appliance-Key-Expires" not in answer.headers
            (listed,) = await admin.get("/keys")
            rotated = await admin.post(f"/keys/{listed['kid']}/rotate", {"grace_hours": GRACE_SECONDS / 3600})
            async with caller(appliance, authorization=f"Bearer {rotated['key']}") as new:
                async with ask(old) as answer:
                    assert answer.status == 200
                    expires = answer.headers["X-Appliance-Key-Expires"]
                    assert expires[:19] == rotated["predecessor_works_until"][:19]
                assert await status(new) == 200
                with pytest.raises(AdminError) as refused:
                    await admin.post(f"/keys/{listed['kid']}/rotate", {})
                assert refused.value.code == "conflict"
                await asyncio.sleep(GRACE_SECONDS + 0.1)
                assert await refusal(old) == (401, "invalid_api_key")
                assert await status(new) == 200
                assert {key["kid"]: key["state"] for key in await admin.get("/keys")} == {
                    listed["kid"]: "retired",
                    rotated["kid"]: "active",
                }
            # Its time is over, but nobody has taken it back: what had begun goes on.
            assert await begun.content.readline()


async def test_a_pepper(tmp_path: Path) -> None:
    """Keys move to the newest when they are used; retiring the old one revokes those that never were."""
    with scripted_appliance(tmp_path / "a") as appliance:
        await add_client(appliance, "asleep")
        async with admin_of(appliance) as admin, caller(appliance) as used, caller(appliance, "asleep") as asleep:
            await admin.post("/peppers/rotate", {})
            assert await status(used) == 200
            with pytest.raises(AdminError, match="would be revoked") as refused:
                await admin.post("/peppers/retire", {"pepper": 1})
            assert refused.value.code == "needs_force"
            answer = await admin.post("/peppers/retire", {"pepper": 1, "force": True})
            assert len(answer["revoked"]) == 1
            assert await refusal(asleep) == (401, "invalid_api_key")
            assert await status(used) == 200


async def test_the_client_authority(tmp_path: Path) -> None:
    """Killed in any phase, it goes on from there. Stragglers are named; the last phase ends what showed the old one."""
    folder = tmp_path / "a"
    with scripted_appliance(folder) as appliance:
        await add_client(appliance, "late")
        keep(appliance, "demo", "old")
        async with caller(appliance, "late") as late:
            assert await status(late) == 200
        await step(appliance, "start")
        appliance.kill()
    with scripted_appliance(folder) as appliance:
        assert await phase(appliance) == "trust_both"
        await renewed(appliance, "demo")
        assert await gets_in(appliance, "demo")
        await step(appliance, "issue")
        appliance.kill()
    with scripted_appliance(folder) as appliance:
        assert await phase(appliance) == "issue_new"
        await renewed(appliance, "demo")
        keep(appliance, "demo", "new")
        for client in ("demo", "old", "late"):
            assert await gets_in(appliance, client)
        # Back, and once more to here.
        await step(appliance, "rollback")
        assert not await gets_in(appliance, "new")
        assert await gets_in(appliance, "old")
        for name in ("start", "issue"):
            await step(appliance, name)
        await renewed(appliance, "demo")
        async with (
            caller(appliance, "late") as late,
            stream(late) as lost,
            caller(appliance) as good,
            stream(good) as kept,
        ):
            async with admin_of(appliance) as admin:
                with pytest.raises(AdminError, match="late") as refused:
                    await admin.post("/authorities/client/rotation", {"step": "finalize"})
                assert refused.value.code == "needs_force"
                answer = await admin.post("/authorities/client/rotation", {"step": "finalize", "force": True})
                assert answer["cut"] == 1
            with pytest.raises(aiohttp.ClientError):
                await lost.content.read()
            assert await kept.content.readline()
        appliance.kill()
    with scripted_appliance(folder) as appliance:
        assert await phase(appliance) == "standby"
        assert await gets_in(appliance, "demo")
        for client in ("old", "new", "late"):
            assert not await gets_in(appliance, client)


def keep(appliance: Appliance, client: str, name: str) -> None:
    """A copy of what a client has now."""
    shutil.copytree(appliance.bundle(client), appliance.bundle(name))


async def step(appliance: Appliance, name: str) -> None:
    async with admin_of(appliance) as admin:
        await admin.post("/authorities/client/rotation", {"step": name})


async def phase(appliance: Appliance) -> str:
    async with admin_of(appliance) as admin:
        found = {one["name"]: one["phase"] for one in (await admin.get("/certificates"))["authorities"]}
        return str(found["client"])


async def renewed(appliance: Appliance, client: str) -> None:
    async with admin_of(appliance) as admin:
        write_files(appliance.bundle(client), await admin.post(f"/clients/{client}/renew", {}))


async def gets_in(appliance: Appliance, client: str) -> bool:
    """Whether the handshake and a request succeed with what is in this bundle."""
    async with caller(appliance, client) as session:
        try:
            return await status(session) == 200
        except aiohttp.ClientError:
            return False
