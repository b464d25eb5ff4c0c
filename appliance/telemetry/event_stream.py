"""What happens, as a stream of events that readers follow and take up again where they lost it.

All readers read from one ring, each at its own place: a slow one costs no memory, and misses what has left the ring.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final, Literal, get_args

import msgspec
from msgspec import Struct

from appliance.telemetry.log_buffer import LogPage
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot

EventKind = Literal["snapshot", "requests", "alerts", "logs"]

KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)
EVENTS_MAX: Final = 2048
BYTES_MAX: Final = 8 * 2**20
# Between two ticks; the newest ones are told of.
REQUESTS_MAX: Final = 1000
READERS_MAX: Final = 32


class Event(Struct, frozen=True, kw_only=True):
    """number: counts from 1. data: JSON. bare: what those are told who may not know of clients; None: nothing."""

    number: int
    kind: EventKind
    data: bytes
    bare: bytes | None


class EventStream:
    """Belongs to the event loop. run: a name for this run of the daemon, in every event's id.

    bare: what of a snapshot anybody may see. logs: the service log after the line of that number.
    """

    def __init__(
        self,
        run: str,
        bare: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot,
        logs: Callable[[int], LogPage] | None = None,
    ) -> None:
        self.readers = 0
        self._run = run
        self._bare = bare
        self._logs = logs
        self._log_number = 0
        self._ring: deque[Event] = deque()
        self._bytes = 0
        self._number = 0
        self._requests: deque[RequestRecord] = deque(maxlen=REQUESTS_MAX)
        self._missed = 0
        self._alerts: tuple[object, ...] = ()
        self._closed = False
        self._news = asyncio.Event()

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────

    def saw(self, record: RequestRecord) -> None:
        """A request has ended; it is told of with the next snapshot."""
        self._missed += len(self._requests) == REQUESTS_MAX
        self._requests.append(record)

    def look(self, seen: Snapshot) -> None:
        """The newest snapshot; what has been collected since the one before goes with it."""
        bare = self._bare(seen)
        self._publish("snapshot", seen, bare)
        if seen.alerts != self._alerts:
            self._alerts = seen.alerts
            self._publish("alerts", {"alerts": seen.alerts}, {"alerts": bare.alerts})
        if self._requests:
            self._publish("requests", {"requests": tuple(self._requests), "missed": self._missed}, None)
            self._requests.clear()
            self._missed = 0
        if self._logs is not None:
            page = self._logs(self._log_number)
            self._log_number = page.newest
            if page.lines:
                self._publish("logs", {"lines": page.lines}, None)
        self._tell()

    def close(self) -> None:
        """Ends every reader's stream."""
        self._closed = True
        self._tell()

    # ── who follows ───────────────────────────────────────────────────────────────────────────────────────────────

    async def follow(
        self, kinds: Collection[EventKind], after: str, *, trusted: bool, allowed: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Events of these kinds in the format of server-sent events, from the one whose id is `after` on.

        Without one that is still known: from the newest snapshot on. trusted: may know of clients. allowed: asked
        before each piece; where it says no, the stream ends, as it does with `close`.
        """
        self.readers += 1
        try:
            place = self._place(after)
            yield b"retry: 1000\n\n"
            while not self._closed and allowed():
                news = self._news
                wanted = [one for one in self._since(place) if one.kind in kinds]
                place = self._number
                told = b"".join(self._written(one, trusted) for one in wanted)
                # A comment: whoever reads knows that we are there.
                yield told or b":\n\n"
                if place == self._number:
                    await news.wait()
        finally:
            self.readers -= 1

    def _place(self, after: str) -> int:
        """The number of the last event that this reader has had."""
        run, _, number = after.partition("-")
        oldest = self._ring[0].number if self._ring else self._number + 1
        if run == self._run and number.isdecimal() and oldest - 1 <= int(number[:20]) <= self._number:
            return int(number[:20])
        newest = next((one.number for one in reversed(self._ring) if one.kind == "snapshot"), self._number + 1)
        return newest - 1

    def _since(self, place: int) -> list[Event]:
        found: list[Event] = []
        for one in reversed(self._ring):
            if one.number <= place:
                break
            found.append(one)
        found.reverse()
        return found

    def _written(self, event: Event, trusted: bool) -> bytes:
        data = event.data if trusted else event.bare
        if data is None:
            return b""
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (self._run.encode(), event.number, event.kind.encode(), data)

    # ── the ring ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish(self, kind: EventKind, content: object, bare: object | None) -> None:
        self._number += 1
        data = _json(content)
        event = Event(
            number=self._number,
            kind=kind,
            data=data,
            bare=None if bare is None else data if bare is content else _json(bare),
        )
        self._ring.append(event)
        self._bytes += _size(event)
        while len(self._ring) > EVENTS_MAX or (self._bytes > BYTES_MAX and len(self._ring) > 1):
            self._bytes -= _size(self._ring.popleft())

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _json(content: object) -> bytes:
    """In one line: JSON has no line ends of its own."""
    return msgspec.json.encode(content)


def _size(event: Event) -> int:
    return len(event.data) + len(event.bare or b"")
