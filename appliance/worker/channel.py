"""The worker's end of the socket to the daemon."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

from appliance.wire import FromWorker, ToWorker, encode, worker_reader

_READ_BYTES: Final = 256 * 1024


class Channel:
    """Frames in, read by one thread; frames out, sent by any. `last_sent` is on the monotonic clock.

    lasting: another connection may take the place of one whose daemon has gone; what is sent in between is nobody's.
    """

    def __init__(self, connection: socket.socket, *, lasting: bool = False) -> None:
        self._connection = connection
        self._lasting = lasting
        self._lock = threading.Lock()
        self.last_sent = time.monotonic()

    def send(self, message: FromWorker) -> None:
        """Sends one frame whole; blocks while the daemon does not read. Raises OSError when it has gone for good."""
        frame = encode(message)
        with self._lock:
            try:
                self._connection.sendall(frame)
            except OSError:
                if not self._lasting:
                    raise
            self.last_sent = time.monotonic()

    def replace(self, connection: socket.socket) -> None:
        """Another daemon is there. `messages` has ended."""
        with self._lock:
            self._connection.close()
            self._connection = connection

    def has_word(self) -> bool:
        """Whether the daemon has sent something, or has gone. Before `messages`."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(0))

    def messages(self, wake_seconds: float) -> Iterator[ToWorker | None]:
        """What the daemon sends, until it closes the connection; None whenever `wake_seconds` pass without anything.

        Raises WireError on garbage.
        """
        frames = worker_reader()
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            if not poll.poll(wake_seconds * 1000):
                yield None
                continue
            try:
                data = self._connection.recv(_READ_BYTES)
            except ConnectionError:
                return
            if not data:
                return
            yield from frames.feed(data)
