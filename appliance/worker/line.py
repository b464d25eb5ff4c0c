"""A connection that may outlive the daemon, because a service manager keeps its other end.

No frames are spoken on it. Over it come the connections that they are spoken on, one after the other: each with one
byte, from the daemon that is there. When it ends, nobody will come any more.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket


class Line:
    """For one thread."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        self._connection = connection

    def next(self, seconds: float | None = None) -> socket.socket | None:
        """The next connection; None once the line has ended, or where none comes in time."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if not poll.poll(None if seconds is None else seconds * 1000):
            return None
        with contextlib.suppress(ConnectionError):
            _, fds, _, _ = socket.recv_fds(self._connection, 1, 1)
            for fd in fds:
                os.set_inheritable(fd, False)
                return socket.socket(fileno=fd)
        return None

    def has_ended(self) -> bool:
        """Whether nobody will come any more."""
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
