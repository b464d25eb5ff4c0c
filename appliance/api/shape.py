"""How one endpoint writes its answers: what `respond` needs of it, and the object every chunk is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec
from msgspec import UNSET, Raw, Struct

from appliance.api.envelope import error_body
from appliance.api.openai_schema import Choice, CompletionObject, UsageOut
from appliance.chat import Content, Part
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, AnswerEvent, ChoiceEnd, Relayed, Text, Vectors
from appliance.types import FinishReason, TokenLogprob, Usage

# Log probabilities of one blocking answer, about 150 bytes each: nothing else bounds how many `n` and `top` make.
LOGPROBS_MAX: Final = 2**20


class WholeChoice:
    """A choice of a blocking answer, as it grows. parts: what its text means.

    reason: None until it has ended. stopped_by: see ChoiceEnd. prompt_logprobs: see Text. written: see Shape.
    """

    __slots__ = ("logprobs", "parts", "prompt_logprobs", "reason", "stopped_by", "text", "written")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.parts: list[Part] = []
        self.logprobs: list[TokenLogprob] = []
        self.prompt_logprobs: list[TokenLogprob] = []
        self.written: list[Raw] = []
        self.reason: FinishReason | None = None
        self.stopped_by: str | None = None


def parts_in(event: Text) -> tuple[Part, ...]:
    """What a text means."""
    return (Content(event.text),) if event.parts is None else event.parts


class WholeAnswer:
    """All choices of a blocking answer. write: of its Shape."""

    def __init__(self, n: int, write: Callable[[Sequence[TokenLogprob]], list[Raw]] = lambda logprobs: []) -> None:
        self._write = write
        self.choices = [WholeChoice() for _ in range(n)]
        self._logprobs = 0

    def add(self, event: Text | ChoiceEnd) -> None:
        """The next event. Raises RequestError when there are more log probabilities than LOGPROBS_MAX."""
        choice = self.choices[event.choice]
        if isinstance(event, ChoiceEnd):
            choice.reason, choice.stopped_by = event.reason, event.stopped_by
            return
        choice.text.append(event.text)
        choice.parts += parts_in(event)
        choice.logprobs += event.logprobs
        choice.prompt_logprobs += event.prompt_logprobs
        choice.written += self._write(event.logprobs)
        self._logprobs += sum(1 + len(token.top) for token in (*event.logprobs, *event.prompt_logprobs))
        if self._logprobs > LOGPROBS_MAX:
            message = f"logprobs: more than {LOGPROBS_MAX} in one answer; ask for fewer, or stream it"
            raise RequestError("invalid_request", message, param="logprobs")


def best_of(choices: Sequence[WholeChoice], k: int, m: int) -> list[WholeChoice]:
    """Of every `m` choices the `k` whose tokens were likeliest on average, the likeliest first. Needs log probabilities
    where k is less than m.
    """
    if k == m:
        return list(choices)
    groups = [choices[start : start + m] for start in range(0, len(choices), m)]
    return [choice for group in groups for choice in sorted(group, key=_mean_logprob, reverse=True)[:k]]


def _mean_logprob(choice: WholeChoice) -> float:
    return sum(token.logprob for token in choice.logprobs) / max(1, len(choice.logprobs))


class Shape(Protocol):
    """The chunks and the body of one answer."""

    def opening(self, choice: int) -> list[CompletionObject]:
        """Chunks before the first text of a choice."""
        ...

    def delta(self, event: Text) -> Sequence[CompletionObject]:
        """The chunks of some text; none where it is held back."""
        ...

    def finish(self, event: ChoiceEnd, usage: Usage | None) -> CompletionObject:
        """A choice's last chunk: the only one with its finish_reason. usage: with the last choice of the answer."""
        ...

    def usage(self, usage: Usage) -> CompletionObject:
        """The chunk with `choices: []`, for clients that asked for usage."""
        ...

    def written(self, logprobs: Sequence[TokenLogprob]) -> list[Raw]:
        """What can be written of the body while it grows: for all at once, others would have to wait."""
        ...

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> CompletionObject:
        """The body of a blocking call."""
        ...


class AnswerWriter(Protocol):
    """What an answer's events become on their way out. It takes either all `chunks`, or `add` and then `whole`.

    says_done: whether `[DONE]` is the end of its streams.
    """

    @property
    def says_done(self) -> bool: ...

    def chunks(self, event: AnswerEvent) -> Sequence[Struct | Raw]:
        """The objects of a stream that `event` adds; none is possible."""
        ...

    def add(self, event: AnswerEvent) -> None:
        """Takes the next event of a blocking answer. Raises RequestError where it becomes too large."""
        ...

    def failed(self, error: RequestError) -> Sequence[Struct | Raw]:
        """The objects that end a stream whose answer failed: the way to fail after the 200 is out."""
        ...

    def whole(self, usage: Usage) -> bytes:
        """The body of the blocking answer, all of whose events have been added."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """What an AnswerWriter is too whose answers may be kept."""

    async def keep(self) -> None:
        """Awaited once the answer is whole, before its end goes out. Raises RequestError; then it has failed."""
        ...


@runtime_checkable
class InPieces(Protocol):
    """What an AnswerWriter is too whose body takes long to write."""

    def pieces(self, usage: Usage) -> Iterator[bytes]:
        """What `whole` says, in pieces of a few milliseconds each."""
        ...


class ShapedAnswer:
    """An answer of our own engine, in the shape of its endpoint. An AnswerWriter.

    n: choices in all. best: (k, m): of every m of them the k likeliest are the answer, the likeliest first; a stream
    has all of them.
    """

    says_done: Final = True

    def __init__(self, shape: Shape, n: int, *, include_usage: bool, best: tuple[int, int] = (1, 1)) -> None:
        self._shape = shape
        self._best = best
        self._include_usage = include_usage
        self._unopened = set(range(n))
        self._whole = WholeAnswer(n, shape.written)

    def chunks(self, event: AnswerEvent) -> list[CompletionObject]:
        """See AnswerWriter."""
        assert not isinstance(event, Relayed | Vectors), "the engine answers with text"
        opening: list[CompletionObject] = []
        if event.choice in self._unopened:
            self._unopened.remove(event.choice)
            opening = self._shape.opening(event.choice)
        match event:
            case AnswerEnd():
                asked = [self._shape.usage(event.usage)] if self._include_usage else []
                return [*opening, self._shape.finish(event, event.usage), *asked]
            case ChoiceEnd():
                return [*opening, self._shape.finish(event, None)]
            case Text():
                return [*opening, *self._shape.delta(event)]

    def add(self, event: AnswerEvent) -> None:
        """See AnswerWriter."""
        assert not isinstance(event, Relayed | Vectors), "the engine answers with text"
        self._whole.add(event)

    def failed(self, error: RequestError) -> list[Raw]:
        """See AnswerWriter."""
        return [Raw(error_body(error))]

    def whole(self, usage: Usage) -> bytes:
        """See AnswerWriter."""
        return msgspec.json.encode(self._shape.whole(best_of(self._whole.choices, *self._best), usage))


class RelayedAnswer:
    """An answer of another server, as it came. An AnswerWriter."""

    says_done: Final = True

    def __init__(self) -> None:
        self._body = b""

    def chunks(self, event: AnswerEvent) -> Sequence[Raw]:
        """See AnswerWriter."""
        return event.objects if isinstance(event, Relayed) else ()

    def add(self, event: AnswerEvent) -> None:
        """See AnswerWriter."""
        if isinstance(event, Relayed):
            (body,) = event.objects
            self._body = bytes(body)

    def failed(self, error: RequestError) -> list[Raw]:
        """See AnswerWriter."""
        return [Raw(error_body(error))]

    def whole(self, usage: Usage) -> bytes:
        """See AnswerWriter. It has its usage in it."""
        return self._body


class AnswerObjects:
    """Makes the objects of one answer: all carry the same id, model and time.

    fingerprint: asked for each of them, because who answers is known only when the first one is made.
    """

    def __init__(self, answer_id: str, model: str, fingerprint: Callable[[], str | None]) -> None:
        self._id = answer_id
        self._model = model
        self._fingerprint = fingerprint
        self._created = int(time.time())

    def make(
        self,
        kind: Callable[..., CompletionObject],
        *choices: Choice,
        usage: Usage | None = None,
    ) -> CompletionObject:
        """One object of `kind`, which fits the choices."""
        return kind(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=list(choices),
            system_fingerprint=self._fingerprint(),
            usage=UNSET if usage is None else UsageOut.of(usage),
        )
