"""The answer of one request on its way from a worker to its reader."""

from __future__ import annotations

import asyncio
from typing import Final

from appliance.errors import RequestError
from appliance.types import Request
from appliance.wire import Delta, Finished, Started

# A reader that has fallen this far behind is dropped: its connection takes nothing.
BUFFER_CHARS_MAX: Final = 4 * 2**20


class ResponseStream:
    """Events of one request: `Started` (at most once), `Delta`s, and one end.

    The instance's task pushes, one reader pulls; both on the event loop. Deltas that wait merge into one, so a slow
    reader costs text, not events. After the end nothing more is taken.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.started: Started | None = None
        self.began = False
        self.attempts = 1
        self._text: list[str] = []
        self._chars = 0
        self._tokens = 0
        self._end: Finished | RequestError | None = None
        self._nudged = False
        self._wake = asyncio.Event()

    @property
    def ended(self) -> bool:
        """True once the end has been pushed."""
        return self._end is not None

    def push(self, event: Started | Delta) -> None:
        """Adds an event from the worker."""
        if self.ended:
            return
        if isinstance(event, Started):
            self.started = event
            return
        self.began = True
        self._text.append(event.text)
        self._chars += len(event.text)
        self._tokens += event.tokens
        if self._chars > BUFFER_CHARS_MAX:
            self.finish(RequestError("internal_error", "the client takes the answer too slowly"))
        self._wake.set()

    def finish(self, end: Finished | RequestError) -> None:
        """Sets the end; a second one is ignored."""
        if self._end is None:
            self._end = end
            self._wake.set()

    def nudge(self) -> None:
        """Makes a reader that waits, or the next one, get None: its patience is over."""
        self._nudged = True
        self._wake.set()

    async def next(self) -> Delta | Finished | None:
        """The next delta (all that waits, merged) or the end; None after a `nudge` with nothing to read.

        Raises the RequestError the request failed with. Safe to cancel: nothing is lost.
        """
        await self._wake.wait()
        nudged, self._nudged = self._nudged, False
        if self._text:
            delta = Delta(number=0, text="".join(self._text), tokens=self._tokens)
            self._text, self._chars, self._tokens = [], 0, 0
            if self._end is None:
                self._wake.clear()
            return delta
        if self._end is None:
            assert nudged, "woken without a reason"
            self._wake.clear()
            return None
        if isinstance(self._end, RequestError):
            raise self._end
        return self._end
