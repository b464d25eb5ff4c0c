"""The real daemon as systemd starts it: with sockets, a place to say how it is, and workers that are no children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.systemd import PassedFd
from tests.e2e.activation import activated
from tests.e2e.appliance_process import STOP_SECONDS_MAX, Appliance, run_command
from tests.fakes.service_manager import FakeManager


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeManager]:
    with FakeManager(tmp_path) as manager:
        yield manager


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[list[PassedFd]]:
    """As `appliance.socket` and `appliance-admin.socket` make them; they stay whatever becomes of the daemon."""
    api = socket.create_server(("127.0.0.1", 0))
    admin = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with api, admin:
        admin.bind(os.fspath(tmp_path / "admin.sock"))
        admin.listen()
        yield [PassedFd("api", api.fileno()), PassedFd("admin", admin.fileno())]


@contextlib.contextmanager
def started(folder: Path, systemd: FakeManager, passed: list[PassedFd]) -> Iterator[Appliance]:
    told = {"NOTIFY_SOCKET": str(systemd.notify), "WATCHDOG_USEC": "2000000"}
    with activated(folder, passed, "--demo", "--engine-socket", systemd.engine, environment=told) as appliance:
        yield appliance


def wait_until(holds: Callable[[], bool], appliance: Appliance) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert appliance.process.poll() is None, appliance.log
        assert time.monotonic() < deadline, appliance.log
        time.sleep(0.02)


def ready(systemd: FakeManager) -> int:
    """How often somebody has said so."""
    return systemd.told().count("READY=1")


def ask(appliance: Appliance) -> str:
    return run_command("run", "demo", "What is mutual TLS?", "--state-dir", appliance.state).stdout


@pytest.mark.slow
def test_a_service_from_its_start_over_a_reload_and_a_restart_to_its_stop(
    tmp_path: Path, systemd: FakeManager, sockets: list[PassedFd]
) -> None:
    api = socket.socket(fileno=os.dup(sockets[0].fd))
    address = api.getsockname()
    api.close()
    with started(tmp_path / "run", systemd, sockets) as first:
        wait_until(lambda: ready(systemd) == 1, first)
        assert first.url == f"https://127.0.0.1:{address[1]}"
        assert ask(first).startswith("Mutual TLS means")
        # Through the socket that was passed: the state directory has none.
        assert not (first.state / "run" / "admin.sock").exists()
        (tmp_path / "run" / "appliance.yaml").write_text(f"admin: {{socket: {tmp_path / 'admin.sock'}}}\n")
        reloaded = run_command("reload", "--state-dir", first.state, "--config", tmp_path / "run" / "appliance.yaml")
        assert reloaded.returncode == 0, reloaded.stderr
        told = systemd.told()
        assert told[told.index("RELOADING=1") + 1].startswith("MONOTONIC_USEC=")
        assert ready(systemd) == 2
        wait_until(lambda: "STATUS=1 of 1 models loaded, 0 requests" in systemd.told(), first)
        assert systemd.told().count("WATCHDOG=1") >= 1
        serving = [worker for worker in systemd.workers if worker.poll() is None]
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(STOP_SECONDS_MAX) == 0, first.log
    told = systemd.told()
    assert "EXTEND_TIMEOUT_USEC=90000000" in told[told.index("STOPPING=1") :]
    # Nobody serves, and nobody is refused.
    with socket.create_connection(address, timeout=60):
        (kept,) = systemd.kept()
        with started(tmp_path / "run", systemd, [*sockets, kept]) as second:
            os.close(kept.fd)
            wait_until(lambda: ready(systemd) == 3, second)
            assert ask(second).startswith("Mutual TLS means")
            assert "its worker has stayed" in second.log
    assert sum(worker.poll() is None for worker in serving) == 1


@pytest.mark.slow
def test_a_socket_that_no_listener_has_is_a_fault_of_the_start(
    tmp_path: Path, systemd: FakeManager, sockets: list[PassedFd]
) -> None:
    wrong = [PassedFd("apy", sockets[0].fd), sockets[1]]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "appliance.yaml").write_text("listeners: {api: {port: 0}}\n")
    with started(tmp_path / "run", systemd, wrong) as appliance:
        assert appliance.process.wait(STOP_SECONDS_MAX) == 1
    assert "systemd passes a socket named 'apy', which nothing here is called" in appliance.log
    assert "FileDescriptorName= must be one of: api, admin, admin-remote" in appliance.log
    assert ready(systemd) == 0
