"""One request that asks for several answers (`n`): how it is taken apart, and how its choices become one answer.

The engine runs every choice as a request of its own and shares the prompt's cells by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from appliance.models.stream import AnswerEnd, AnswerEvent, ChoiceEnd, Origin, ResponseStream
from appliance.types import Request, Timings, Usage
from appliance.wire import Finished, Started


def choices_of(request: Request, n: int) -> list[Request]:
    """For each prompt `n` times the same request; its choice i draws with seed + i where a seed is given."""
    each = [request, *(replace(request, prompt=prompt) for prompt in request.further)]
    return [choice for one in each for choice in _choices_of_one(one, n)]


def _choices_of_one(request: Request, n: int) -> list[Request]:
    seed = request.sampling.seed
    if n == 1 or seed is None:
        return [request] * n
    return [_with_seed(request, seed + index) for index in range(n)]


def _with_seed(request: Request, seed: int) -> Request:
    """The largest seed has a successor too: seeds wrap around in their 64 bits."""
    wrapped = (seed + 2**63) % 2**64 - 2**63
    return replace(request, sampling=replace(request.sampling, seed=wrapped))


class ChoiceStreams:
    """The choices of one request, read as one answer. An AnswerSource; belongs to the event loop.

    streams: in the order of their choices; n: how many of them each prompt has. wake: the event that all of them set.
    The failure of one is the failure of the request; who reads must then leave, which aborts the others.
    """

    def __init__(self, streams: Sequence[ResponseStream], wake: asyncio.Event, n: int) -> None:
        self._streams = streams
        self._n = n
        self._wake = wake
        self._open = dict(enumerate(streams))
        self._ends: dict[int, Finished] = {}
        self._ready: deque[AnswerEvent] = deque()

    @property
    def started(self) -> Started | None:
        """Of the first choice: the others find the prompt in its cells."""
        return self._streams[0].started

    @property
    def attempts(self) -> int:
        """Of the choice that needed most."""
        return max(stream.attempts for stream in self._streams)

    @property
    def origin(self) -> Origin | None:
        """Of all choices; None where the model's file changed between a crash and another try of some of them."""
        first = self._streams[0].origin
        return first if all(stream.origin == first for stream in self._streams) else None

    def nudge(self) -> None:
        """See AnswerSource."""
        self._wake.set()

    def expire(self) -> None:
        """See AnswerSource."""
        for stream in self._streams:
            stream.expire()

    async def next(self) -> AnswerEvent | None:
        """See AnswerSource. Every choice that has something gets its turn before one gets a second."""
        if not self._ready:
            await self._wake.wait()
            self._wake.clear()
            for choice, stream in list(self._open.items()):
                self._gather(choice, stream)
        return self._ready.popleft() if self._ready else None

    def _gather(self, choice: int, stream: ResponseStream) -> None:
        while (event := stream.take()) is not None:
            if not isinstance(event, Finished):
                self._ready.append(event)
                continue
            del self._open[choice]
            self._ends[choice] = event
            more = bool(self._open)
            end = ChoiceEnd(choice=choice, reason=event.reason, stopped_by=event.stopped_by)
            self._ready.append(end if more else self._answer_end(choice))
            return

    def _answer_end(self, last: int) -> AnswerEnd:
        """A prompt counts once, as its first choice found it; the choices were computed side by side."""
        ends = [self._ends[choice] for choice in range(len(self._streams))]
        first, prompts = ends[0], ends[:: self._n]
        return AnswerEnd(
            choice=last,
            reason=self._ends[last].reason,
            stopped_by=self._ends[last].stopped_by,
            usage=Usage(
                prompt_tokens=sum(end.usage.prompt_tokens for end in prompts),
                completion_tokens=sum(end.usage.completion_tokens for end in ends),
                cached_tokens=sum(end.usage.cached_tokens for end in prompts),
            ),
            timings=Timings(
                queue_seconds=first.timings.queue_seconds,
                prefill_seconds=first.timings.prefill_seconds,
                decode_seconds=max(end.timings.decode_seconds for end in ends),
            ),
        )
