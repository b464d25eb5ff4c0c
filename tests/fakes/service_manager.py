"""What systemd does for the service, on real sockets: a worker for each connection, and descriptors that it keeps."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from appliance.systemd import PassedFd


class FakeManager:
    """`notify` is NOTIFY_SOCKET, `engine` the engine socket, both paths; workers are those that it has started."""

    def __init__(self, folder: Path) -> None:
        self.notify, self.engine = folder / "notify", folder / "engine.sock"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(os.fspath(self.notify))
        self._told.setblocking(False)
        self._engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._engine.bind(os.fspath(self.engine))
        self._engine.listen()
        self._kept: list[PassedFd] = []
        self._accepting = threading.Thread(target=self._accept, name="fake manager")
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A closed socket wakes nobody; a connection does.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            self._stopping = True
            last.connect(os.fspath(self.engine))
            self._accepting.join()
        self._engine.close()
        self._told.close()
        for one in self._kept:
            os.close(one.fd)
        for worker in self.workers:
            worker.kill()
            worker.wait()

    _stopping = False

    def kept(self) -> list[PassedFd]:
        """What it would pass to the next process: copies, which are the caller's."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self._told, 4096, 4)
                fields = dict(line.split("=", 1) for line in data.decode().splitlines())
                self._kept += [PassedFd(fields["FDNAME"], fd) for fd in fds]
        return [PassedFd(one.name, os.dup(one.fd)) for one in self._kept]

    def _accept(self) -> None:
        while True:
            connection, _ = self._engine.accept()
            with connection:
                if self._stopping:
                    return
                self.workers.append(
                    subprocess.Popen(
                        (sys.executable, "-m", "appliance.worker", "--line", str(connection.fileno())),
                        pass_fds=(connection.fileno(),),
                        stdin=subprocess.DEVNULL,
                    )
                )
