"""Starts workers by forking a small process that has what they need; the launcher's are scripted.

Such a worker is a process with a socket like any other, there in a few milliseconds of processor time. A fresh
interpreter takes a tenth of a second, and hundreds of tests want one.
"""

from __future__ import annotations

import atexit
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

from appliance.models.launcher import WorkerLink
from tests.fakes.fork_server import MESSAGE_BYTES_MAX


class ForkingLauncher:
    """See `appliance.models.launcher.Launcher`. load: as `--load` of the scripted worker."""

    def __init__(self, load: str = "ok") -> None:
        self._load = load

    async def launch(self) -> WorkerLink:
        """Forks a fresh worker."""
        ours, theirs = socket.socketpair()
        with theirs:
            process: Any = forked("tests.fakes.fork_server", theirs, self._load)
        return WorkerLink(ours, process)

    def prepare(self) -> None:
        """Nothing is got ready."""


def forked(module: str, connection: socket.socket, load: str = "") -> Child:
    """A child of `module`, a program of `fork_server.serve_forks`, that works on the connection."""
    server = _server(module)
    return Child(server, int(server.ask("F" + load, connection)))


class _Server:
    """A process that forks; it ends with this one. For any thread."""

    def __init__(self, module: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-m", module], stdin=theirs.fileno())
        self._lock = threading.Lock()

    def ask(self, message: str, handed: socket.socket | None = None) -> bytes:
        with self._lock:
            socket.send_fds(self._socket, [message.encode()], [] if handed is None else [handed.fileno()])
            return self._socket.recv(MESSAGE_BYTES_MAX)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def _server(module: str) -> _Server:
    server = _Server(module)
    atexit.register(server.close)
    return server


class Child:
    """What a WorkerLink asks of a subprocess.Popen. For any thread."""

    def __init__(self, server: _Server, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        return self._returncode(0)

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if (status := self._returncode(timeout)) is None:
            raise subprocess.TimeoutExpired("forked worker", timeout or 0)
        return status

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _returncode(self, timeout: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        try:
            ended = os.pidfd_open(self.pid)
        except ProcessLookupError:
            # Another thread was told meanwhile.
            with self._lock:
                return self.returncode
        try:
            readable = select.select([ended], [], [], timeout)[0]
        finally:
            os.close(ended)
        with self._lock:
            if readable and self.returncode is None:
                # It has ended, and stays a zombie until its parent is asked.
                self.returncode = os.waitstatus_to_exitcode(int(self._server.ask(f"R{self.pid}")))
            return self.returncode
