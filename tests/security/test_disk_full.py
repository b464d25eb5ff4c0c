"""A full disk: what cannot be recorded does not happen, nothing is torn, and it goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.admin_client import AdminError
from appliance.config import WorkerLimits
from appliance.errors import LoadError
from appliance.gguf.file_types import file_type
from appliance.models.launcher import SpawnLauncher
from appliance.models.quantizing import quantize_model
from appliance.types import QuantizeOrder
from tests.security.daemons import (
    admin_of,
    audited,
    caller,
    refusal,
    scripted_appliance,
    status,
    stream,
    until,
    verified,
)

TMPFS_MIB = 4
# The service would stop itself while there is some room left; these tests are about none at all.
NO_GUARD = "audit: {disk_warn_bytes: 0, disk_min_bytes: 0}\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of its own. Skips where nobody may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m,mode=0700", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, but: int = 0) -> Path:
    """Takes all the room there is, but so many bytes."""
    path = folder / "filler"
    if but:
        status = os.statvfs(folder)
        path.write_bytes(b"\0" * (status.f_bavail * status.f_frsize - but))
        return path
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return path


@pytest.mark.slow
async def test_a_disk_that_fills_while_a_model_is_quantised(small_disk: Path, random_gguf: Path) -> None:
    target = small_disk / "new.gguf"
    target.write_bytes(b"")
    fill(small_disk, but=2**20)
    number = file_type("q8_0").number
    order = QuantizeOrder(
        source=str(random_gguf), target=str(target), file_type=number, requantize=False, threads=1, bytes_max=2**30
    )
    with pytest.raises(LoadError, match="no space is left on the disk of"):
        await quantize_model(order, SpawnLauncher(), WorkerLimits(), lambda count: None)


@pytest.mark.slow
async def test_a_full_disk(small_disk: Path) -> None:
    with scripted_appliance(small_disk / "a", NO_GUARD) as appliance:
        async with (
            caller(appliance) as session,
            caller(appliance) as streaming,
            admin_of(appliance) as admin,
            stream(streaming) as running,
        ):
            assert await status(session) == 200
            generation = (await admin.get("/status"))["generation"]
            filler = fill(small_disk)

            async def shut() -> bool:
                return await status(session) == 503

            await until(shut)
            assert await refusal(session) == (503, "audit_unavailable")
            async with session.get("/v1/models") as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "5"
            async with session.get("/livez") as answer:
                assert answer.status == 200
            # What runs comes to its end.
            assert await running.content.readline()
            for path, body in (
                ("/keys", {"principal": "demo"}),
                ("/clients/demo/revoke", {}),
                ("/server/renew", {}),
                ("/peppers/rotate", {}),
                ("/data-keys/credentials/rotate", {}),
                ("/seal-key/rotate", {}),
                ("/reload", {}),
                ("/allowlist/stage", {"add": [{"network": "192.0.2.1"}]}),
            ):
                with pytest.raises(AdminError) as refused:
                    await admin.post(path, body)
                assert refused.value.code == "state_error", path
                assert "audit log cannot be written" in str(refused.value)
            found = await admin.get("/status")
            assert found["generation"] == generation
            assert any("audit log cannot be written" in reason for reason in found["degraded"])
            filler.unlink()

            async def open_again() -> bool:
                return await status(session) == 200

            await until(open_again)
            async with admin_of(appliance) as fresh:
                assert (await fresh.post("/keys", {"principal": "demo"}))["key"]
                await fresh.post("/reload", {})
                assert not (await fresh.get("/status"))["degraded"]
            assert "Traceback" not in appliance.log
        assert verified(appliance.state)
        assert audited(appliance, "audit.degraded")
        assert audited(appliance, "audit.resumed")


@pytest.mark.slow
async def test_little_room(small_disk: Path) -> None:
    """Requests are refused while administrators can still do something about it."""
    config = f"audit: {{disk_warn_bytes: {2**21}, disk_min_bytes: {2**20}}}\n"
    with scripted_appliance(small_disk / "a", config) as appliance:
        async with caller(appliance) as session, admin_of(appliance) as admin:
            assert await status(session) == 200
            filler = fill(small_disk, but=2**19)

            async def shut() -> bool:
                return await status(session) == 503

            await until(shut)
            assert await refusal(session) == (503, "audit_unavailable")
            assert any("left on the disk" in reason for reason in (await admin.get("/status"))["degraded"])
            assert (await admin.post("/keys", {"principal": "demo"}))["key"]
            filler.unlink()

            async def open_again() -> bool:
                return await status(session) == 200

            await until(open_again)
            assert not (await admin.get("/status"))["degraded"]


@pytest.mark.slow
async def test_stopped_and_killed_while_full(small_disk: Path) -> None:
    """Nothing is torn: it starts again when there is room."""
    with scripted_appliance(small_disk / "a", NO_GUARD) as appliance:
        filler = fill(small_disk)
        async with caller(appliance) as session:

            async def shut() -> bool:
                return await status(session) == 503

            await until(shut)
        appliance.kill()
    filler.unlink()
    with scripted_appliance(small_disk / "a", NO_GUARD) as appliance:
        async with caller(appliance) as session:
            assert await status(session) == 200
        filler = fill(small_disk)
    filler.unlink()
    with scripted_appliance(small_disk / "a", NO_GUARD) as appliance:
        async with caller(appliance) as session:
            assert await status(session) == 200
    verified(appliance.state)
