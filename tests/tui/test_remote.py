"""The dashboard from another host: over mutual TLS, with what each administrator's role may see and do."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.admin_client import AdminClient
from appliance.security.tls import client_context
from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.ports import free_port
from tests.tui.tmux import Tmux, in_tmux

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
CONFIG: Final = """
admin:
  remote:
    host: 127.0.0.1
    port: {port}
    allow: [127.0.0.1]
    administrators: {{vera: [viewer], olga: [operator]}}
"""


class Remote:
    """A daemon with an admin port, and a bundle for each administrator."""

    def __init__(self, appliance: Appliance, port: int, folder: Path) -> None:
        self.appliance = appliance
        self.port = port
        self.folder = folder

    def command(self, name: str, *options: str) -> tuple[str, ...]:
        where = ("--host", f"localhost:{self.port}", "--bundle", str(self.folder / name))
        return (sys.executable, "-m", "appliance", "top", "--no-mouse", *where, *options)

    def state_of_demo(self) -> str:
        async def work() -> str:
            context = client_context(self.folder / "olga", "admin")
            async with AdminClient.remote(f"https://localhost:{self.port}", context) as client:
                return str((await client.get("/instances"))["instances"][0]["state"])

        return asyncio.run(work())


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder, port = tmp_path_factory.mktemp("remote"), free_port()
    with running_appliance(folder / "appliance", "--demo", config=CONFIG.format(port=port)) as appliance:
        for name in ("vera", "olga"):
            config = ("--state-dir", appliance.state, "--config", appliance.folder / "appliance.yaml")
            done = run_command("certs", "issue", name, "--admin", "--out", folder / name, *config)
            assert done.returncode == 0, done.stderr
        yield Remote(appliance, port, folder)


def in_dashboard(remote: Remote, name: str, *options: str) -> Iterator[Tmux]:
    with in_tmux(remote.command(name, *options)) as screen:
        screen.wait("LIVE")
        yield screen


@pytest.fixture
def viewer(remote: Remote) -> Iterator[Tmux]:
    yield from in_dashboard(remote, "vera")


@pytest.fixture
def operator(remote: Remote) -> Iterator[Tmux]:
    yield from in_dashboard(remote, "olga")


def test_a_viewer_sees_figures_and_is_told_what_is_not_for_their_role(remote: Remote, viewer: Tmux) -> None:
    shown = viewer.wait("READY")
    assert "vera viewer@mtls" in shown
    for key, of in (("3", "requests.list"), ("4", "keys.list"), ("5", "allow.list"), ("6", "audit.read")):
        viewer.press(key)
        shown = viewer.wait(f"{of} needs the role")
        assert "Your role is not shown these:" in shown
        assert "admin.remote.administrators in appliance.yaml" in " ".join(shown.split())
        assert "only this host may connect" not in shown
    viewer.press("2")
    shown = viewer.wait("demo")
    assert "Unload" not in shown.splitlines()[-1]
    # A key that is not shown asks all the same, and the appliance refuses.
    viewer.press("u")
    viewer.wait("model.unload needs the role operator")
    assert remote.state_of_demo() == "ready"


def test_an_operator_acts_from_afar_and_the_audit_log_knows_who(remote: Remote, operator: Tmux) -> None:
    shown = operator.wait("olga operator@mtls")
    operator.press("2")
    shown = operator.wait("READY")
    assert "uUnload" in shown.splitlines()[-1]
    operator.press("u")
    operator.wait("appliance models unload demo")
    operator.press("Tab", "Enter")
    operator.wait("model.unload demo: ok")
    operator.wait(" OFF ")
    assert remote.state_of_demo() == "stopped"
    operator.press("l")
    operator.wait("appliance models load demo")
    operator.press("Tab", "Enter")
    operator.wait("READY")
    done = run_command("audit", "tail", "--since", "1h", "--state-dir", remote.appliance.state)
    assert re.search(r"olga.*model\.unload", done.stdout), done.stdout


def test_read_only_hides_what_the_role_would_allow(remote: Remote) -> None:
    for screen in in_dashboard(remote, "olga", "--read-only"):
        screen.press("2")
        screen.wait("<2Models>")
        shown = screen.wait("READY")
        assert " RO" in shown.splitlines()[0]
        assert "Unload" not in shown.splitlines()[-1]
        screen.press("u")
        screen.wait("read-only: nothing can be done here")


def test_a_wide_terminal_says_how_long_ones_own_certificate_lasts(remote: Remote) -> None:
    with in_tmux(remote.command("vera"), 130, 30) as screen:
        assert re.search(r"cert 1\d\dd  vera viewer@mtls", screen.wait("LIVE"))


def test_a_bundle_of_a_client_is_refused_with_a_reason(remote: Remote) -> None:
    bundle = remote.appliance.bundle()
    done = run_command("top", "--once", "--host", f"localhost:{remote.port}", "--bundle", bundle)
    assert done.returncode == 1
    assert "not a usable admin bundle" in done.stderr


def test_a_port_that_is_closed_is_named(remote: Remote) -> None:
    closed = free_port()
    done = run_command("top", "--once", "--host", f"localhost:{closed}", "--bundle", remote.folder / "vera")
    assert done.returncode == 1
    assert f"https://localhost:{closed}" in done.stderr


def test_once_and_json_work_from_afar(remote: Remote) -> None:
    done = run_command("top", "--json", "--host", f"localhost:{remote.port}", "--bundle", remote.folder / "vera")
    assert done.returncode == 0, done.stderr
    assert '"models"' in done.stdout
