"""Starts worker processes and speaks frames with them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, Protocol

from appliance.wire import FromWorker, ToWorker, daemon_reader, encode

READ_BYTES: Final = 256 * 1024
EXIT_SECONDS_MAX: Final = 2.0
WORKER_COMMAND: Final = (sys.executable, "-m", "appliance.worker")

# A worker gets what it needs to find its interpreter, its libraries and its GPU, and nothing else.
_ENV_NAMES: Final = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
_ENV_PREFIXES: Final = ("LC_", "PYTHON", "CUDA_", "NVIDIA_", "GGML_", "OMP_")


class WorkerLink:
    """One connection to one worker. Belongs to the event loop; one task reads, any task sends."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, process: subprocess.Popen[bytes] | None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._process = process
        self._frames = daemon_reader()

    @property
    def pid(self) -> int | None:
        """The worker's process id, where this daemon started it."""
        return None if self._process is None else self._process.pid

    def send(self, message: ToWorker) -> None:
        """Queues one frame. A worker that is gone is noticed by `receive`, not here."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def receive(self) -> list[FromWorker]:
        """The next messages; empty once the worker is gone. Raises WireError on garbage."""
        while True:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                return []
            if messages := self._frames.feed(data):
                return messages

    def kill(self) -> None:
        """Ends the worker without asking it; `receive` then returns empty."""
        if self._process is not None:
            self._process.kill()
        self._writer.transport.abort()

    async def close(self) -> int | None:
        """Closes the connection, which ends the worker, and returns its exit status where it is known."""
        self._writer.transport.abort()
        if self._process is None:
            return None
        try:
            return await asyncio.to_thread(self._process.wait, EXIT_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)


class Launcher(Protocol):
    """Makes one worker per call."""

    async def launch(self) -> WorkerLink:
        """Starts or reaches a fresh worker. Raises OSError."""
        ...


class SpawnLauncher:
    """Starts a worker as a subprocess with one end of a socket pair: development and `make run`.

    command: the program; it is told its socket as `--fd N`.
    """

    def __init__(self, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._command = tuple(command)

    async def launch(self) -> WorkerLink:
        """Starts a fresh worker. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # A fork of milliseconds; asyncio's own subprocess leaks its child when it is cancelled half-way.
                process = subprocess.Popen(  # noqa: ASYNC220
                    [*self._command, "--fd", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=_worker_environment(),
                )
            except BaseException:
                ours.close()
                raise
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=READ_BYTES)
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
        return WorkerLink(reader, writer, process)


def _worker_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in _ENV_NAMES or k.startswith(_ENV_PREFIXES)}
    return kept | {"PYTHONUNBUFFERED": "1"}
