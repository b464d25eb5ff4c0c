"""What systemd does for the service, on real sockets: a worker for each connection, and descriptors that it keeps."""

from __future__ import annotations

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
        self._engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._engine.bind(os.fspath(self.engine))
        self._engine.listen()
        self._kept: list[PassedFd] = []
        self._lines: list[str] = []
        self._heard = threading.Semaphore(0)
        self._stopping = False
        # A queue of ten datagrams is all that the kernel keeps for somebody who does not read.
        self._threads = [threading.Thread(target=each, name="fake manager") for each in (self._accept, self._listen)]
        for each in self._threads:
            each.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A closed socket wakes nobody; a connection does, and a word.
        self._stopping = True
        self._say("BYE=1")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(os.fspath(self.engine))
        for each in self._threads:
            each.join()
        self._engine.close()
        self._told.close()
        for one in self._kept:
            os.close(one.fd)
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def kept(self) -> list[PassedFd]:
        """What it would pass to the next process: copies, which are the caller's."""
        self._hear()
        return [PassedFd(one.name, os.dup(one.fd)) for one in self._kept]

    def _hear(self) -> None:
        # What was sent before this word has been heard after it.
        self._say("PING=1")
        self._heard.acquire()

    def _say(self, word: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(word.encode(), os.fspath(self.notify))

    def told(self) -> list[str]:
        """The lines that were said until now, the oldest first."""
        self._hear()
        return list(self._lines)

    def _listen(self) -> None:
        while not self._stopping:
            data, fds, _, _ = socket.recv_fds(self._told, 4096, 4)
            lines = data.decode().splitlines()
            fields = dict(line.split("=", 1) for line in lines)
            self._kept += [PassedFd(fields["FDNAME"], fd) for fd in fds]
            if lines == ["PING=1"]:
                self._heard.release()
            else:
                self._lines += lines

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
