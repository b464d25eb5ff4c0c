"""The answer of another server on its way to one reader."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Raw

from appliance.errors import RequestError
from appliance.models.stream import DEADLINE_RETRY_SECONDS, AnswerEnd, ChoiceEnd, Origin, Relayed, Text
from appliance.models.upstream.chunks import AnswerRelay
from appliance.models.upstream.pooling import PoolingRelay
from appliance.models.upstream.request import UpstreamRequest
from appliance.wire import Started

# More than that waits in the server and on the network: its connection is not read until the client has taken some.
WAITING_BYTES_MAX: Final = 64 * 1024


def _relay(request: UpstreamRequest) -> AnswerRelay | PoolingRelay:
    return PoolingRelay(request) if request.endpoint in ("embeddings", "rerank") else AnswerRelay(request)


class UpstreamStream:
    """An AnswerSource. The model's task pushes, one reader pulls; both on the event loop.

    What waits goes out together, so a slow reader costs fewer writes. After the end nothing more is taken.
    began: something has been said that the client may have; then no other server can take over.
    """

    def __init__(self, request: UpstreamRequest) -> None:
        self.request = request
        self.relay = _relay(request)
        self.attempts = 0
        self.began = False
        self._base_url: str | None = None
        self._objects: list[Raw] = []
        self._parts: list[Text | ChoiceEnd] = []
        self._bytes = 0
        self._end: AnswerEnd | RequestError | None = None
        self._wake = asyncio.Event()
        self._taken = asyncio.Event()

    @property
    def started(self) -> Started | None:
        """Our estimate of the prompt, which is what a client that leaves in the middle has used."""
        return Started(number=0, prompt_tokens=self.request.prompt_tokens, cached_tokens=0) if self.began else None

    @property
    def ended(self) -> bool:
        """True once the end has been pushed."""
        return self._end is not None

    @property
    def complete(self) -> bool:
        """True once the server has said all; its connection may serve the next request."""
        return isinstance(self._end, AnswerEnd) and self.relay.done

    @property
    def origin(self) -> Origin | None:
        """The server of the present try; what it says of itself comes with its answer."""
        if self._base_url is None:
            return None
        return Origin(
            system_fingerprint=self.relay.fingerprint, base_url=self._base_url, served_as=self.request.served_as
        )

    def try_again(self, base_url: str) -> None:
        """The next try begins, at another server or the same, with nothing of the one before."""
        assert not self.began
        self._base_url = base_url
        self.attempts += 1
        self.relay = _relay(self.request)

    def push(self, relayed: Relayed) -> None:
        """Adds what the server said."""
        if self.ended:
            return
        self.began = True
        self._objects += relayed.objects
        self._parts += relayed.parts
        self._bytes += sum(len(item) for item in relayed.objects)
        self._wake.set()

    async def room(self) -> None:
        """Waits while as much waits for the reader as may."""
        while self._bytes > WAITING_BYTES_MAX and not self.ended:
            self._taken.clear()
            await self._taken.wait()

    def finish(self, end: AnswerEnd | RequestError) -> None:
        """Sets the end; a second one is ignored."""
        if self._end is None:
            self._end = end
            self._wake.set()
            self._taken.set()

    def nudge(self) -> None:
        """See AnswerSource."""
        self._wake.set()

    def expire(self) -> None:
        """See AnswerSource."""
        if self.ended:
            return
        if self.request.stream and self.began and (cut := self.relay.cut_off()) is not None:
            last, end = cut
            self.push(last)
            self.finish(end)
            return
        seconds = self.request.seconds_max
        message = f"the request had no answer after its {seconds:g} s; try again later"
        self.finish(RequestError("deadline_exceeded", message, retry_after=DEADLINE_RETRY_SECONDS))

    async def next(self) -> Relayed | AnswerEnd | None:
        """See AnswerSource."""
        await self._wake.wait()
        if self._end is None:
            self._wake.clear()
        if self._objects or self._parts:
            relayed = Relayed(objects=tuple(self._objects), parts=tuple(self._parts))
            self._objects, self._parts, self._bytes = [], [], 0
            self._taken.set()
            return relayed
        if isinstance(self._end, RequestError):
            raise self._end
        return self._end
