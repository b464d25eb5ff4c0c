"""A connection that may outlive the daemon, because a service manager keeps its other end.

No frames are spoken on it. Over it come descriptors, each with one byte, from the daemon that is there: the connections
that frames are spoken on, one after the other, and a file where a job writes one. When it ends, nobody will come any
more.
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
        fd = self.next_fd(seconds)
        return None if fd is None else socket.socket(fileno=fd)

    def next_fd(self, seconds: float | None = None) -> int | None:
        """The next descriptor of any kind, which is the caller's."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if not poll.poll(None if seconds is None else seconds * 1000):
            return None
        with contextlib.suppress(ConnectionError):
            _, fds, _, _ = socket.recv_fds(self._connection, 1, 1)
            if fds:
                os.set_inheritable(fds[0], False)
                return fds[0]
        return None

    def has_ended(self) -> bool:
        """Whether nobody will come any more."""
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
