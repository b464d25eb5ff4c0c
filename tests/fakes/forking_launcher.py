"""Starts scripted workers by forking the test's process.

Such a worker is a process with a socket like any other, there in a few milliseconds of processor time. A fresh
interpreter takes a tenth of a second, and hundreds of tests want one.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from appliance.models.launcher import WorkerLink
from tests.fakes.scripted_worker import ScriptedWorker


class ForkingLauncher:
    """See `appliance.models.launcher.Launcher`. load: as `--load` of the scripted worker."""

    def __init__(self, load: str = "ok") -> None:
        self._load = load

    async def launch(self) -> WorkerLink:
        """Forks a fresh worker."""
        ours, theirs = socket.socketpair()
        with theirs:
            if not (pid := os.fork()):
                _work(theirs, self._load)
        process: Any = _Child(pid)
        return WorkerLink(ours, process)

    def prepare(self) -> None:
        """Nothing is got ready."""


class _Child:
    """What a WorkerLink asks of a subprocess.Popen. For any thread."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if (status := self.poll()) is not None:
            return status
        ended = os.pidfd_open(self.pid)
        try:
            select.select([ended], [], [], timeout)
        finally:
            os.close(ended)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired("scripted worker", timeout or 0)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _work(connection: socket.socket, load: str) -> NoReturn:
    """The child: nothing of the test's process is used or ended, above all no connection stays open here."""
    status = 1
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for fd in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
            if fd > 2 and fd != connection.fileno():
                with contextlib.suppress(OSError):
                    os.close(fd)
        ScriptedWorker(connection).serve(load)
        status = 0
    except BaseException:
        # Where pytest keeps what is printed is closed here.
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)
