"""The answer of one request on its way from a worker to its reader."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from msgspec import Raw, Struct

from appliance.chat import Part
from appliance.errors import RequestError
from appliance.types import AnswerFormat, FinishReason, Request, Timings, TokenLogprob, Usage
from appliance.wire import Delta, Finished, Pooled, PromptRead, Scored, Started

# A reader that has fallen this far behind is dropped: its connection takes nothing.
BUFFER_CHARS_MAX: Final = 4 * 2**20
# What one log probability counts for in that bound.
LOGPROB_CHARS: Final = 16
DEADLINE_RETRY_SECONDS: Final = 10


class Text(Struct, frozen=True, kw_only=True):
    """New text of one choice: all that waited for its reader.

    answer: how the answer's text is to be read. deltas: what the text is made of, with the tokens of each, where it is
    more than one. prompt_logprobs: those of the prompt's tokens, all of them, with the first text; the very first is 0,
    because nothing is known of it. parts: what this text means, and what was held back before; None where
    nobody has read it: then it is the text itself.
    """

    choice: int
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    answer: AnswerFormat | None = None
    deltas: tuple[tuple[str, int], ...] = ()
    parts: tuple[Part, ...] | None = None


class Vectors(Struct, frozen=True, kw_only=True):
    """The vectors or scores of all inputs, in their order; nothing but the end comes after them."""

    pooled: tuple[Pooled, ...]


class ChoiceEnd(Struct, frozen=True, kw_only=True):
    """One choice is complete. stopped_by: the stop string that ended it."""

    choice: int
    reason: FinishReason
    stopped_by: str | None = None


class AnswerEnd(ChoiceEnd, frozen=True, kw_only=True):
    """The last choice is complete, and with it the request: `usage` and `timings` are those of all choices.

    timings: None where another server did the work.
    """

    usage: Usage
    timings: Timings | None


class Relayed(Struct, frozen=True, kw_only=True):
    """What another server said: JSON objects as they go out, and what they say, for the records."""

    objects: tuple[Raw, ...]
    parts: tuple[Text | ChoiceEnd, ...] = ()


AnswerEvent = Text | Vectors | ChoiceEnd | AnswerEnd | Relayed


class Origin(Struct, frozen=True, kw_only=True):
    """Who makes an answer: which version of a model of ours, or which server, as far as that is known.

    system_fingerprint: see `models.version`; of a server, what it says itself. file_sha256: hex; None until it is
    known. base_url: of the server, None for a model of ours. served_as: what the model is called there.
    """

    system_fingerprint: str | None = None
    file_sha256: str | None = None
    base_url: str | None = None
    served_as: str | None = None


class AnswerSource(Protocol):
    """What a reader needs of an answer, be it of one choice or of several. Belongs to the event loop."""

    @property
    def started(self) -> Started | None:
        """What the worker said when the request got its slot."""
        ...

    @property
    def attempts(self) -> int:
        """Tries on a worker."""
        ...

    @property
    def origin(self) -> Origin | None:
        """Who makes the answer; None while nobody does. It stands from the first event on."""
        ...

    def nudge(self) -> None:
        """Makes a reader that waits, or the next one, get None unless there is something to read."""
        ...

    def expire(self) -> None:
        """Ends what has not ended: with `length` where there is text, else with deadline_exceeded."""
        ...

    async def next(self) -> AnswerEvent | None:
        """The next event, the last one an AnswerEnd; None after a `nudge` with nothing to read.

        Raises the RequestError the request failed with. Safe to cancel: nothing is lost.
        """
        ...


class ReadSource:
    """An AnswerSource that reads another one: what it does not say itself is the other's. Belongs to the event loop."""

    def __init__(self, source: AnswerSource) -> None:
        self._source = source

    @property
    def started(self) -> Started | None:
        """See AnswerSource."""
        return self._source.started

    @property
    def attempts(self) -> int:
        """See AnswerSource."""
        return self._source.attempts

    @property
    def origin(self) -> Origin | None:
        """See AnswerSource."""
        return self._source.origin

    def nudge(self) -> None:
        """See AnswerSource."""
        self._source.nudge()

    def expire(self) -> None:
        """See AnswerSource."""
        self._source.expire()


class ResponseStream:
    """One choice of a request, and an AnswerSource when it is the only one.

    The instance's task pushes, one reader pulls; both on the event loop. Deltas that wait merge into one, so a slow
    reader costs text, not events. After the end nothing more is taken. Vectors are kept until all of them are there, so
    that a request for them begins to answer at its end, and can be tried again until then; what is told of a prompt is
    kept until there is a text, or the end.

    deadline: on the instance's clock. wake: set when there is something to read; the choices of one request share it.
    """

    def __init__(
        self, request: Request, *, deadline: float = float("inf"), choice: int = 0, wake: asyncio.Event | None = None
    ) -> None:
        self.request = request
        self.deadline = deadline
        self.started: Started | None = None
        self.read: PromptRead | None = None
        self.began = False
        self.attempts = 1
        self.origin: Origin | None = None
        self._choice = choice
        self._text: list[tuple[str, int]] = []
        self._logprobs: list[TokenLogprob] = []
        self._pooled: dict[int, Pooled] = {}
        self._scored: list[TokenLogprob] = []
        self._chars = 0
        self._tokens = 0
        self._tokens_read = 0
        self._end: Finished | RequestError | None = None
        self._wake = wake or asyncio.Event()

    @property
    def ended(self) -> bool:
        """True once the end has been pushed."""
        return self._end is not None

    def push(self, event: Started | Delta | PromptRead | Scored | Pooled) -> None:
        """Adds an event from the worker."""
        if self.ended:
            return
        if isinstance(event, PromptRead):
            self.read = event
            return
        if isinstance(event, Started):
            self.started = event
            return
        if isinstance(event, Pooled):
            self._pooled[event.index] = event
            return
        if isinstance(event, Scored):
            self._scored += event.logprobs
            return
        self.began = True
        self._text.append((event.text, event.tokens))
        self._chars += len(event.text)
        self._tokens += event.tokens
        if event.logprobs:
            self._logprobs += event.logprobs
            self._chars += LOGPROB_CHARS * sum(1 + len(token.top) for token in event.logprobs)
        if self._chars > BUFFER_CHARS_MAX:
            self.finish(RequestError("internal_error", "the client takes the answer too slowly; read it as it comes"))
        self._wake.set()

    def finish(self, end: Finished | RequestError) -> None:
        """Sets the end; a second one is ignored."""
        if self._end is None:
            self._end = end
            self._wake.set()

    def expire(self) -> None:
        """Ends it in the engine's place and by the engine's rule; what is waiting can still be read."""
        if not self.began or self.started is None:
            seconds = self.request.seconds_max
            message = f"the request had no answer after its {seconds:g} s; try again later"
            self.finish(RequestError("deadline_exceeded", message, retry_after=DEADLINE_RETRY_SECONDS))
            return
        usage = Usage(
            prompt_tokens=self.started.prompt_tokens,
            completion_tokens=self._tokens_read + self._tokens,
            cached_tokens=self.started.cached_tokens,
        )
        timings = Timings(queue_seconds=0.0, prefill_seconds=0.0, decode_seconds=0.0)
        self.finish(Finished(number=0, reason="length", usage=usage, timings=timings))

    def nudge(self) -> None:
        """See AnswerSource."""
        self._wake.set()

    def try_again(self) -> None:
        """It goes to another worker; of what the one before has said nothing is out."""
        assert not self.began
        self.started = None
        self.attempts += 1
        self._pooled.clear()
        self._scored.clear()

    def take(self) -> Text | Vectors | Finished | None:
        """What waits, merged; after it the end; None while there is neither. Raises the RequestError it failed with."""
        if self._text or (self._scored and isinstance(self._end, Finished)):
            answer = self.started.answer if self.started is not None else None
            text = Text(
                choice=self._choice,
                text="".join([text for text, _ in self._text]),
                tokens=self._tokens,
                logprobs=tuple(self._logprobs),
                prompt_logprobs=tuple(self._scored),
                answer=answer,
                deltas=tuple(self._text) if answer is not None and len(self._text) > 1 else (),
            )
            self._tokens_read += self._tokens
            self._text, self._logprobs, self._scored, self._chars, self._tokens = [], [], [], 0, 0
            return text
        if isinstance(self._end, RequestError):
            raise self._end
        if self._end is not None and self._pooled:
            vectors = Vectors(pooled=tuple(self._pooled[index] for index in sorted(self._pooled)))
            self._pooled = {}
            return vectors
        return self._end

    async def next(self) -> Text | Vectors | AnswerEnd | None:
        """See AnswerSource."""
        await self._wake.wait()
        event = self.take()
        if isinstance(event, Finished):
            return AnswerEnd(
                choice=self._choice,
                reason=event.reason,
                usage=event.usage,
                timings=event.timings,
                stopped_by=event.stopped_by,
            )
        if self._end is None:
            self._wake.clear()
        return event
