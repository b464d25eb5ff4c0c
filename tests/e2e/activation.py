"""The real daemon as systemd starts it: handed the sockets that it listens at, which stay whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from appliance.systemd import FIRST_FD, PassedFd
from tests.e2e.appliance_process import START_SECONDS_MAX, STOP_SECONDS_MAX, Appliance
from tests.security.daemons import MODELS

# Becomes the daemon, with the descriptors of the first argument from 3 on: its number is only known here.
_BECOME = f"""
import os, sys
for number, fd in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(fd, number + 1000)
for number in range(len(sys.argv[1].split(","))):
    os.dup2(number + 1000, number + {FIRST_FD})
os.closerange({FIRST_FD} + len(sys.argv[1].split(",")), 1100)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
_SCRIPTED: Final = "tests.fakes.scripted_appliance"
_NOTHING: Final[Mapping[str, str]] = {}


@contextlib.contextmanager
def activated(
    folder: Path,
    passed: Sequence[PassedFd],
    *arguments: str | Path,
    program: str = "appliance",
    environment: Mapping[str, str] = _NOTHING,
) -> Iterator[Appliance]:
    """`appliance serve` with its state in `folder`, for the first time or again; killed at the end of the block.

    program: the module to run. environment: what a manager says besides the sockets.
    """
    folder.mkdir(exist_ok=True)
    (folder / "appliance.yaml").touch()
    own = ("--state-dir", folder / "state", "--config", folder / "appliance.yaml")
    sockets = {"LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(one.name for one in passed)}
    (folder / "output").touch()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            (
                *(sys.executable, "-c", _BECOME, ",".join(str(one.fd) for one in passed), "-m", program, "serve"),
                *map(str, (*arguments, *own)),
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **sockets, **environment},
            pass_fds=tuple(one.fd for one in passed),
        )
    try:
        yield Appliance(process, folder)
    finally:
        process.kill()
        process.wait()


def listening_socket() -> socket.socket:
    """As `appliance.socket` makes it."""
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


@contextlib.contextmanager
def serving(folder: Path, listening: socket.socket) -> Iterator[Appliance]:
    """One with scripted models at that socket, from when it serves on."""
    folder.mkdir(exist_ok=True)
    (folder / "models.yaml").write_text(MODELS)
    passed = [PassedFd("api", listening.fileno())]
    with activated(folder, passed, "--models", folder / "models.yaml", program=_SCRIPTED) as appliance:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (appliance.state / "run" / "api.url").exists():
            assert appliance.process.poll() is None, appliance.log
            assert time.monotonic() < deadline, appliance.log
            time.sleep(0.02)
        yield appliance


async def stopped(appliance: Appliance) -> None:
    """Once it has ended as after `systemctl stop`."""
    appliance.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(appliance.process.wait, STOP_SECONDS_MAX) == 0, appliance.log
