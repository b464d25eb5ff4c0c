"""One daemon per state directory, its admin socket, and how it ends."""

from __future__ import annotations

import asyncio
import grp
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from tests.e2e.appliance_process import run_command
from tests.security.daemons import (
    admin_of,
    ask,
    audited,
    caller,
    first_text,
    scripted_appliance,
    status,
    text_of,
    verified,
)

STREAMS = 20
NOBODY = 65534


@pytest.mark.slow
async def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    """And takes nothing away from the first, its admin socket least of all."""
    with scripted_appliance(tmp_path / "a") as appliance:
        second = await asyncio.to_thread(run_command, "serve", "--demo", "--port", "0", "--state-dir", appliance.state)
        assert second.returncode == 1
        assert f"in use by another daemon (pid {appliance.process.pid})" in second.stderr
        async with admin_of(appliance) as admin, caller(appliance) as session:
            assert (await admin.get("/status"))["running"]
            assert await status(session) == 200


@pytest.mark.slow
async def test_a_socket_that_a_crash_left_behind(tmp_path: Path) -> None:
    """Commands work on the state directory itself, and the next daemon serves on the socket."""
    with scripted_appliance(tmp_path / "a") as appliance:
        appliance.kill()
    socket = appliance.state / "run" / "admin.sock"
    assert socket.is_socket()
    added = run_command("keys", "add", "demo", "--state-dir", appliance.state)
    assert added.returncode == 0, added.stderr
    with scripted_appliance(tmp_path / "a") as appliance:
        appliance.kill()
    with scripted_appliance(tmp_path / "a") as appliance:
        async with (
            admin_of(appliance) as admin,
            caller(appliance, authorization=f"Bearer {added.stdout.strip()}") as new,
        ):
            assert (await admin.get("/status"))["running"]
            assert await status(new) == 200
    assert not socket.exists()
    verified(appliance.state)


@pytest.mark.slow
async def test_drain_with_many_streams(tmp_path: Path) -> None:
    """SIGTERM: every stream comes to its end, nobody new gets in, a SIGHUP in between does no harm, exit code 0."""
    script = " ".join(f"say:{number}_ sleep:0.02" for number in range(100))
    with scripted_appliance(tmp_path / "a") as appliance:
        async with caller(appliance) as session, asyncio.TaskGroup() as group:
            begun = asyncio.Barrier(STREAMS + 1)

            async def one() -> str:
                async with ask(session, script, stream=True) as answer:
                    first = await first_text(answer)
                    await begun.wait()
                    return text_of(first + (await answer.read()).decode())

            tasks = [group.create_task(one()) for _ in range(STREAMS)]
            await begun.wait()
            url = appliance.url
            appliance.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(appliance.wait_for, "stopping")
            (appliance.folder / "appliance.yaml").write_text("listeners: {api: {allow: [127.0.0.1]}}\n")
            for _ in range(3):
                appliance.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.05)
            async with caller(appliance, url=url) as late:
                with pytest.raises(aiohttp.ClientConnectionError):
                    await status(late)
        said = {task.result() for task in tasks}
        assert said == {"".join(f"{number} " for number in range(100))}
        began = time.monotonic()
        assert await asyncio.to_thread(appliance.process.wait, 60) == 0
        assert time.monotonic() - began < 25
        assert "Traceback" not in appliance.log
    assert audited(appliance, "audit.stopped")
    assert len(audited(appliance, "api.request")) == STREAMS
    verified(appliance.state)


@pytest.mark.slow
async def test_signals_at_every_moment_of_a_start_and_an_end(tmp_path: Path) -> None:
    """SIGHUP before, while and after it serves never ends it in another way than SIGTERM would."""
    for delay in (0.0, 0.05):
        with scripted_appliance(tmp_path / "a") as appliance:
            async with admin_of(appliance) as admin:
                reloads = [admin.post("/reload", {}) for _ in range(3)]
                appliance.process.send_signal(signal.SIGHUP)
                await asyncio.gather(*reloads)
            await asyncio.sleep(delay)
            appliance.process.send_signal(signal.SIGTERM)
            for _ in range(10):
                appliance.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.01)
            assert await asyncio.to_thread(appliance.process.wait, 60) == 0
            assert "Traceback" not in appliance.log


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that everybody may look into; what is made in it belongs to the group `users`."""
    folder = Path(tempfile.mkdtemp(prefix="appliance-"))
    os.chown(folder, 0, grp.getgrnam("users").gr_gid)
    folder.chmod(0o2755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("curl") is None, reason="becomes another user, and uses curl")
def test_local_users(tmp_path: Path, shared_folder: Path) -> None:
    """The file's mode keeps strangers out; of those who get in, their groups say what they may."""
    socket = shared_folder / "admin.sock"
    config = f"admin: {{socket: {socket}, groups: {{viewer: [users], security: [no-such-group]}}}}\n"
    users = grp.getgrnam("users").gr_gid

    def call(path: str, groups: list[int]) -> tuple[int, bytes]:
        done = subprocess.run(
            ["curl", "-s", "--unix-socket", socket, f"http://appliance/admin/v1{path}"],
            user=NOBODY,
            group=NOBODY,
            extra_groups=groups,
            capture_output=True,
            cwd="/",
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    with scripted_appliance(tmp_path / "a", config) as appliance:
        code, answer = call("/whoami", [])
        assert (code, answer) == (7, b"")  # curl: could not connect
        code, answer = call("/whoami", [users])
        assert msgspec.json.decode(answer) == {"name": "nobody", "uid": NOBODY, "roles": ["viewer"]}
        code, answer = call("/keys", [users])
        assert msgspec.json.decode(answer)["error"]["code"] == "forbidden"
        owner = run_command("whoami", "--state-dir", appliance.state, "--config", appliance.folder / "appliance.yaml")
        assert owner.stdout == "root: auditor, operator, security, viewer\n"
    (denied,) = [one for one in audited(appliance, "keys.list") if one.outcome == "deny"]
    assert (denied.actor.principal, denied.actor.uid) == ("nobody", NOBODY)
