"""Starts worker processes and speaks frames with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from appliance.errors import WireError
from appliance.wire import FromWorker, ToWorker, daemon_reader, encode

READ_BYTES: Final = 256 * 1024
# More than a socket holds; a worker that never stops to write must not keep the loop.
READS_AT_ONCE_MAX: Final = 4
EXIT_SECONDS_MAX: Final = 2.0
WORKER_COMMAND: Final = (sys.executable, "-m", "appliance.worker")

# A worker gets what it needs to find its interpreter, its libraries and its GPU, and nothing else.
_ENV_NAMES: Final = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
_ENV_PREFIXES: Final = ("LC_", "PYTHON", "CUDA_", "NVIDIA_", "GGML_", "OMP_")


class WorkerLink:
    """One connection to one worker. Belongs to the event loop; one task receives, any task sends.

    It works on the socket itself: a transport drops what it has received as soon as a write fails, and the last words
    of a dying worker decide what becomes of its requests. Every token of every stream comes through here, so it stays
    registered with the loop and reads into one buffer.

    process: of a worker that this process started. line: of one that somebody else did, what its connections come over,
    this link's from now on; its end shows at the connection alone. kept: such a worker stays when it is left.
    """

    def __init__(
        self,
        connection: socket.socket,
        process: subprocess.Popen[bytes] | None,
        *,
        line: socket.socket | None = None,
    ) -> None:
        self.line = line
        self.kept = False
        self.told_pid: int | None = None
        connection.setblocking(False)
        self._connection = connection
        self._process = process
        self._frames = daemon_reader()
        self._buffer = bytearray(READ_BYTES)
        self._messages: list[FromWorker] = []
        self._garbage: WireError | None = None
        self._reads = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._unsent = bytearray()

    @property
    def pid(self) -> int | None:
        """The worker's process id: where this daemon started it, or once it has told."""
        return self.told_pid if self._process is None else self._process.pid

    def send(self, message: ToWorker) -> None:
        """Sends one frame, or queues it. A worker that is gone is noticed by `receive`, not here."""
        waiting = bool(self._unsent)
        self._unsent += encode(message)
        if not waiting:
            self._flush()

    async def receive(self) -> list[FromWorker]:
        """The next messages; empty once the worker is gone. Raises WireError on garbage. Safe to cancel."""
        loop = asyncio.get_running_loop()
        if not self._reads:
            loop.add_reader(self._connection, self._read)
            self._reads = True
        while not self._messages and not self._ended:
            self._waiter = loop.create_future()
            await self._waiter
        messages, self._messages = self._messages, []
        if self._garbage is not None and not messages:
            raise self._garbage
        return messages

    def is_there(self) -> bool:
        """Whether the worker has neither gone nor spoken, as far as can be told at once. Before its job."""
        if self._ended or self._messages or (self._process is not None and self._process.poll() is not None):
            return False
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def hang_up(self) -> None:
        """Ends the connection, and with it the worker; `receive` then returns empty."""
        with contextlib.suppress(OSError):
            # Of somebody else's, the other direction is open until the worker has gone.
            self._connection.shutdown(socket.SHUT_RDWR if self.line is None else socket.SHUT_WR)
        if self.line is not None:
            with contextlib.suppress(OSError):
                self.line.shutdown(socket.SHUT_RDWR)
            self._end()
        elif self._reads and not self._ended:
            self._read()

    def kill(self) -> None:
        """The same for a worker that may not notice."""
        if self._process is not None:
            self._process.kill()
        self.hang_up()

    async def close(self) -> int | None:
        """Ends the connection, and with it the worker, and returns its exit status where it is known. Idempotent.

        Returns when the worker has gone, and its memory with it, or after EXIT_SECONDS_MAX.
        """
        if self._connection.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(self._connection)
            asyncio.get_running_loop().remove_reader(self._connection)
            try:
                if self.line is not None:
                    await self._see_end(self.line)
            finally:
                self._close()
        if self._process is None:
            return None
        # Whoever is cancelled meanwhile leaves no child behind that nobody has waited for.
        ended = asyncio.get_running_loop().run_in_executor(None, _wait_for, self._process)
        cancelled = None
        while not ended.done():
            try:
                await asyncio.wait((ended,))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return ended.result()

    async def leave(self) -> int | None:
        """As `close`, but that a worker that is kept stays, without this connection."""
        if not self.kept:
            return await self.close()
        if self._connection.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(self._connection)
            self._end()
            self._close()
        return None

    def _close(self) -> None:
        self._connection.close()
        if self.line is not None:
            self.line.close()

    def _read(self) -> None:
        """The loop's callback: takes all that has come, and wakes the task that receives.

        All of it and the end behind it, because uvloop calls only once for a worker that died with frames unread.
        """
        try:
            for _ in range(READS_AT_ONCE_MAX):
                if not (count := self._connection.recv_into(self._buffer)):
                    self._ended = True
                    break
                self._messages += self._frames.feed(memoryview(self._buffer)[:count])
        except BlockingIOError:
            pass
        except OSError:
            self._ended = True
        except WireError as error:
            self._garbage, self._ended = error, True
        if self._ended:
            self._end()
        elif self._messages:
            self._wake()

    def _end(self) -> None:
        self._ended = True
        asyncio.get_running_loop().remove_reader(self._connection)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _see_end(self, line: socket.socket) -> None:
        """Waits until the worker's end has closed: the kernel frees a process's memory before that."""
        for each, how in ((self._connection, socket.SHUT_WR), (line, socket.SHUT_RDWR)):
            with contextlib.suppress(OSError):
                each.shutdown(how)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(EXIT_SECONDS_MAX):
                while await asyncio.get_running_loop().sock_recv(self._connection, READ_BYTES):
                    pass

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(self._unsent)
        del self._unsent[:sent]
        if self._unsent:
            loop.add_writer(self._connection, self._flush)
        else:
            loop.remove_writer(self._connection)


def exit_text(status: int | None) -> str:
    """How a worker ended, for people. status: as `WorkerLink.close` returns it."""
    if status is None:
        return "exit status unknown"
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(EXIT_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Launcher(Protocol):
    """Makes one worker per call."""

    async def launch(self) -> WorkerLink:
        """Starts or reaches a fresh worker. Raises OSError."""
        ...

    def prepare(self) -> None:
        """A load has ended: the moment to get ready for the next one."""
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
                    env=worker_environment(),
                )
            except BaseException:
                ours.close()
                raise
        return WorkerLink(ours, process)

    def prepare(self) -> None:
        """Nothing is got ready."""


def hand_over(line: socket.socket, fd: int) -> None:
    """Gives a copy of a descriptor to the worker at the end of a line. Raises OSError."""
    socket.send_fds(line, [b"\n"], [fd])


def stream_over(line: socket.socket) -> socket.socket:
    """Our end of a new connection to the worker at the end of a line. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            hand_over(line, theirs.fileno())
        except OSError:
            ours.close()
            raise
    return ours


class SocketLauncher:
    """Reaches a worker by connecting to a socket: systemd starts `appliance-engine@.service` for each connection.

    That connection is the worker's line.

    Its sandbox, its user and its end are the unit's; this process is not its parent and cannot kill it.
    """

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)

    async def launch(self) -> WorkerLink:
        """A fresh worker, which may still be starting. Raises OSError."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.setblocking(False)
        try:
            # At once, or BlockingIOError where its backlog is full: the unit's MaxConnections= is the limit.
            line.connect(self._path)
            return WorkerLink(stream_over(line), None, line=line)
        except OSError as error:
            line.close()
            raise OSError(error.errno, f"no engine worker: {error.strerror}", self._path) from error

    def prepare(self) -> None:
        """Nothing is got ready."""


def worker_environment() -> dict[str, str]:
    """What a worker is given of this process's environment."""
    kept = {k: v for k, v in os.environ.items() if k in _ENV_NAMES or k.startswith(_ENV_PREFIXES)}
    return kept | {"PYTHONUNBUFFERED": "1"}
