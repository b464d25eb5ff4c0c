"""The answer of one of our own models, with what its text means: an AnswerSource around an AnswerSource."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.chat import AnswerParser, Call, Part, Tools, answer_parser, joined
from appliance.models.stream import AnswerEnd, AnswerEvent, AnswerSource, ChoiceEnd, ReadSource, Relayed, Text, Vectors
from appliance.types import AnswerFormat, FinishReason, Usage

_PLAIN: Final = AnswerFormat()


class AnswerTerms(Struct, frozen=True, kw_only=True):
    """What a request wants of its answers. tools: that may be called. calls_max: how many, None for any number.

    reasoning: false leaves what a model thinks in its text, as it wrote it. called: how an answer with calls ends.
    """

    tools: Tools
    calls_max: int | None = None
    reasoning: bool = True
    called: FinishReason = "tool_calls"


@contextmanager
def parsed(submitted: AbstractContextManager[AnswerSource], wanted: AnswerTerms, n: int) -> Iterator[AnswerSource]:
    """The same answer, read. n: its choices."""
    with submitted as source:
        yield ParsedSource(source, wanted, n)


class ParsedSource(ReadSource):
    """Each Text has its parts, and the reason of a choice's end says whether it has calls. Belongs to the event loop.

    An answer that has all the calls it may have ends there, and leaving it ends the engine's work.
    """

    def __init__(self, source: AnswerSource, wanted: AnswerTerms, n: int) -> None:
        super().__init__(source)
        self._wanted = wanted
        self._choices = [_Choice(wanted) for _ in range(n)]
        self._ready: deque[AnswerEvent] = deque()

    async def next(self) -> AnswerEvent | None:
        """See AnswerSource."""
        if self._ready:
            return self._ready.popleft()
        event = await self._source.next()
        match event:
            case Text():
                return self._read(event)
            case ChoiceEnd():
                return self._end(event)
            case None:
                return None
            case Relayed() | Vectors():
                raise AssertionError("the engine answers with text")

    def _read(self, event: Text) -> Text:
        choice = self._choices[event.choice]
        read = choice.read(event)
        if choice.done and len(self._choices) == 1 and (started := self.started) is not None:
            prompt, cached = started.prompt_tokens, started.cached_tokens
            usage = Usage(prompt_tokens=prompt, completion_tokens=choice.tokens, cached_tokens=cached)
            end = AnswerEnd(choice=event.choice, reason="stop", usage=usage, timings=None)
            self._ready.append(self._with_reason(end))
        return read

    def _end(self, event: ChoiceEnd) -> AnswerEvent:
        parts = self._choices[event.choice].end()
        end = self._with_reason(event)
        if parts is None or not parts.parts:
            return end
        self._ready.append(end)
        return parts

    def _with_reason(self, event: ChoiceEnd) -> ChoiceEnd:
        """An answer that was cut off is that first of all."""
        if event.reason == "stop" and self._choices[event.choice].called:
            event = replace(event, reason=self._wanted.called)
        if not isinstance(event, AnswerEnd):
            return event
        thought = [choice.thought_tokens for choice in self._choices if choice.thought_tokens is not None]
        return replace(event, usage=replace(event.usage, reasoning_tokens=sum(thought))) if thought else event


class _Choice:
    """One choice as it is read. tokens: of it so far. called: whether it has a call.

    thought_tokens: those of the texts that the engine sent while the model thought, the one in which it ended included;
    None where thoughts are not told apart.
    """

    def __init__(self, wanted: AnswerTerms) -> None:
        self._wanted = wanted
        self._parser: AnswerParser | None = None
        self._index = 0
        self._undecided = 0
        self.tokens = 0
        self.called = False
        self.thought_tokens: int | None = None

    @property
    def done(self) -> bool:
        """Whether nothing that follows counts."""
        return self._parser is not None and self._parser.done

    def read(self, event: Text) -> Text:
        self.tokens += event.tokens
        self._index = event.choice
        if self._parser is None:
            self._parser = self._parser_of(event.answer or _PLAIN)
        parts: list[Part] = []
        for text, tokens in event.deltas or ((event.text, event.tokens),):
            parts += self._feed(self._parser, text, tokens)
        self.called = self.called or any(isinstance(part, Call) for part in parts)
        return replace(event, parts=tuple(joined(parts)), deltas=())

    def _feed(self, parser: AnswerParser, text: str, tokens: int) -> list[Part]:
        before = parser.thinking
        parts = parser.feed(text)
        self._undecided += tokens
        if before or parser.thinking:
            self.thought_tokens = (self.thought_tokens or 0) + self._undecided
        if before or parser.thinking or parts:
            self._undecided = 0
        return parts

    def end(self) -> Text | None:
        """What was held back; None where nothing was ever said."""
        if self._parser is None:
            return None
        parts = joined(self._parser.end())
        self.called = self.called or any(isinstance(part, Call) for part in parts)
        return Text(choice=self._index, text="", tokens=0, parts=tuple(parts))

    def _parser_of(self, answer: AnswerFormat) -> AnswerParser:
        if not self._wanted.reasoning:
            answer = replace(answer, reasoning="none")
        if answer.reasoning != "none":
            self.thought_tokens = 0
        return answer_parser(answer, self._wanted.tools, self._wanted.calls_max)
