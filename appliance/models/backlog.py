"""Which requests a worker holds, which wait for one, and what becomes of them when it dies.

Pure: no clock, no I/O. The rules, so that a poison request does not take the others down twice:

- A request whose answer has begun fails with `engine_crash`: the client has seen half of it.
- A request that had its slot but no token out is a suspect: it is tried once more, alone.
- A request that was still waiting is sent again. If it lived through two crashes it is a suspect too.
- A suspect whose second try crashes fails with `engine_crash`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from appliance.errors import RequestError
from appliance.models.stream import ResponseStream
from appliance.wire import Finished


@dataclass(slots=True)
class Entry:
    """One outstanding request. `number` is its name on the present connection; 0 while it is not sent."""

    stream: ResponseStream
    number: int = 0
    crashes: int = 0
    suspect: bool = False


class Backlog:
    """Outstanding requests of one model, in order of arrival."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, Entry] = OrderedDict()
        self._sent: OrderedDict[int, Entry] = OrderedDict()
        self._by_stream: dict[int, Entry] = {}
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._by_stream)

    @property
    def in_flight(self) -> int:
        """How many requests the worker holds."""
        return len(self._sent)

    def add(self, stream: ResponseStream) -> None:
        """Takes a new request; it waits to be sent."""
        entry = Entry(stream)
        self._by_stream[id(stream)] = entry
        self._held[id(stream)] = entry

    def sendable(self) -> list[Entry]:
        """Takes out what may go to the worker now and numbers it.

        A suspect goes alone: nothing else is sent until it has shown a token. Until it has ended, every other request
        that was there at a crash waits, so that none is taken down twice. Everything else goes at once.
        """
        if not self._held:
            return []  # asked after every step
        suspects = [entry for entry in self._held.values() if entry.suspect]
        unproven = [entry for entry in self._sent.values() if not entry.stream.began]
        if any(entry.suspect for entry in unproven):
            return []
        trying = any(entry.suspect for entry in self._sent.values())
        if suspects and not trying:
            return [] if unproven else [self._send(suspects[0])]
        free = [entry for entry in self._held.values() if not entry.suspect and not (trying and entry.crashes)]
        return [self._send(entry) for entry in free]

    def _send(self, entry: Entry) -> Entry:
        self._last_number += 1
        entry.number = self._last_number
        del self._held[id(entry.stream)]
        self._sent[entry.number] = entry
        return entry

    def find(self, number: int) -> ResponseStream | None:
        """The request a worker's event belongs to; None when it was dropped meanwhile."""
        entry = self._sent.get(number)
        return None if entry is None else entry.stream

    def end(self, number: int, end: Finished | RequestError) -> None:
        """A worker's end of a request."""
        if (entry := self._sent.pop(number, None)) is not None:
            del self._by_stream[id(entry.stream)]
            entry.stream.finish(end)

    def drop(self, stream: ResponseStream) -> int | None:
        """Forgets a request its reader has left. Returns the number to abort, if a worker holds it."""
        entry = self._by_stream.pop(id(stream), None)
        if entry is None:
            return None
        self._held.pop(id(stream), None)
        return entry.number if self._sent.pop(entry.number, None) is not None else None

    def crashed(self, reason: str) -> None:
        """The worker died: sorts what it held into failed, suspect and waiting, by the rules above."""
        again: OrderedDict[int, Entry] = OrderedDict()
        for entry in self._sent.values():
            entry.crashes += 1
            stream = entry.stream
            if stream.began or entry.suspect:
                del self._by_stream[id(stream)]
                stream.finish(RequestError("engine_crash", reason, retry_after=1))
                continue
            entry.suspect = stream.started is not None or entry.crashes >= 2
            entry.number = 0
            stream.try_again()
            again[id(stream)] = entry
        self._sent.clear()
        self._held = again | self._held

    def fail_sent(self, error: RequestError) -> None:
        """Ends what the worker holds; what was not sent yet waits for the next one."""
        for entry in self._sent.values():
            del self._by_stream[id(entry.stream)]
            entry.stream.finish(error)
        self._sent.clear()

    def fail_all(self, error: RequestError) -> None:
        """Ends every outstanding request with `error`."""
        for entry in self._by_stream.values():
            entry.stream.finish(error)
        self._by_stream.clear()
        self._held.clear()
        self._sent.clear()
