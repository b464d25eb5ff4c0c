"""Server-sent events as other servers send them, from bytes to the data of each event. Pure."""

from __future__ import annotations

from typing import Final

# One event: a whole chat chunk with its log probabilities, or a tool call that comes at once.
EVENT_BYTES_MAX: Final = 4 * 2**20


class SseReader:
    """Feed it what came; it returns what is whole. LF and CRLF, comments and other fields dropped."""

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._event_bytes_max = event_bytes_max
        self._rest: list[bytes] = []
        self._size = 0
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of every event that has become complete. Raises ValueError for one that is too large."""
        head, *lines = data.split(b"\n")
        self._rest.append(head)
        self._size += len(head)
        events: list[bytes] = []
        for line in lines:
            # A line has ended: `line` begins the next one.
            self._take(b"".join(self._rest).removesuffix(b"\r"), events)
            self._rest = [line]
            self._size += len(line)
        if self._size > self._event_bytes_max:
            raise ValueError(f"sends an event of more than {self._event_bytes_max} bytes")
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._size = [], 0
