"""A small process that forks workers which have all imported; started as a module, scripted ones for ForkingLauncher.

The process that runs the tests has hundreds of megabytes: forking it takes the processor several times as long.

It is asked on the socket at fd 0, one message at a time, and ends when that closes. "F" and how a worker loads, with
the worker's socket beside it, is answered by the worker's pid; "R" and the pid of one that has ended by what waitpid
says.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

MESSAGE_BYTES_MAX: Final = 256
# What a worker does, given its socket and how it loads.
Work = Callable[[socket.socket, str], None]


def serve_forks(work: Work) -> None:
    """Forks and reaps until nobody asks any more."""
    gc.disable()
    # Ctrl-C is for the tests; what forks here ends with its socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as asked:
        while True:
            message, fds, _, _ = socket.recv_fds(asked, MESSAGE_BYTES_MAX, 1)
            match message[:1].decode(), message[1:].decode():
                case "F", load:
                    with socket.socket(fileno=fds[0]) as connection:
                        if not (pid := os.fork()):
                            _work(work, connection, load)
                    asked.send(b"%d" % pid)
                case "R", pid:
                    asked.send(b"%d" % os.waitpid(int(pid), 0)[1])
                case _:
                    return


def _work(work: Work, connection: socket.socket, load: str) -> NoReturn:
    """The child: no connection but its own stays open here."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for fd in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
            if fd > 2 and fd != connection.fileno():
                with contextlib.suppress(OSError):
                    os.close(fd)
        work(connection, load)
        status = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


if __name__ == "__main__":
    from tests.fakes.scripted_worker import ScriptedWorker

    serve_forks(lambda connection, load: ScriptedWorker(connection).serve(load))
