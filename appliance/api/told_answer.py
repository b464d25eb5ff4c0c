"""The chat of another server, read as an answer of our own engine is, for endpoints with words of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from appliance.api.attempts import Attempt
from appliance.api.field_names import FieldNames
from appliance.api.parsed import AnswerTerms
from appliance.api.shape import AnswerWriter
from appliance.chat import Call, Content, Part, Reasoning, joined
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, AnswerEvent, AnswerSource, ChoiceEnd, ReadSource, Relayed, Text, Vectors
from appliance.types import TokenLogprob


class _Function(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct, frozen=True):
    """index: absent in a whole message, where a call is an entry."""

    index: int | None = None
    function: _Function = _Function()


class _Said(Struct, frozen=True):
    """A delta or a message; content may be a list of parts."""

    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Likely(Struct, frozen=True):
    logprob: float
    token: str = ""
    exact: list[int] | None = field(default=None, name="bytes")

    @property
    def piece(self) -> bytes:
        return self.token.encode(errors="replace") if self.exact is None else bytes(each & 255 for each in self.exact)


class _Drawn(_Likely, frozen=True):
    top_logprobs: list[_Likely] | None = None


class _Logprobs(Struct, frozen=True):
    content: list[_Drawn] | None = None


class _Choice(Struct, frozen=True):
    """stop_reason: vLLM's; the stop text that ended it."""

    delta: _Said | None = None
    message: _Said | None = None
    logprobs: _Logprobs | None = None
    stop_reason: int | str | None = None
    appliance_unparsed_tool_call: bool = False


class _Object(Struct, frozen=True):
    choices: list[_Choice] = []


_object: Final = msgspec.json.Decoder(_Object)


def told(attempt: Attempt, writer: AnswerWriter, wanted: AnswerTerms, names: FieldNames) -> Attempt:
    """A chat that is asked of another server, answered by `writer`. names: what its fields are called here."""
    return Attempt(
        _submitted(attempt.submitted, wanted, names), writer, attempt.terms, attempt.repeatable, attempt.evidence
    )


@contextmanager
def _submitted(
    submitted: AbstractContextManager[AnswerSource], wanted: AnswerTerms, names: FieldNames
) -> Iterator[AnswerSource]:
    with submitted as source:
        yield ToldAnswer(source, wanted, names)


class ToldAnswer(ReadSource):
    """An AnswerSource of one choice whose texts have their parts. Belongs to the event loop.

    A call is a part once it is whole: when the next thing begins, or at the end.
    """

    def __init__(self, source: AnswerSource, wanted: AnswerTerms, names: FieldNames) -> None:
        super().__init__(source)
        self._wanted = wanted
        self._names = names
        self._ready: deque[AnswerEvent] = deque()
        # The call that is coming: its index, its name and its arguments so far.
        self._call: tuple[int, str, list[str]] | None = None
        self._called = False
        self._stopped_by: str | None = None

    async def next(self) -> AnswerEvent | None:
        """See AnswerSource."""
        if self._ready:
            return self._ready.popleft()
        try:
            event = await self._source.next()
        except RequestError as error:
            raise self._names.error(error) from error
        match event:
            case Relayed():
                return self._read(event)
            case AnswerEnd():
                return self._end(event)
            case None:
                return None
            case Text() | Vectors() | ChoiceEnd():
                raise AssertionError("another server's answer is relayed")

    def _read(self, event: Relayed) -> Text:
        said = [part for part in event.parts if isinstance(part, Text)]
        parts: list[Part] = []
        logprobs: list[TokenLogprob] = []
        for choice in self._choices(event.objects):
            message = choice.delta or choice.message or _Said()
            parts += self._parts(message, unparsed=choice.appliance_unparsed_tool_call)
            logprobs += _logprobs(choice.logprobs)
            if isinstance(choice.stop_reason, str):
                self._stopped_by = choice.stop_reason
        return Text(
            choice=0,
            text="".join(part.text for part in said),
            tokens=sum(part.tokens for part in said),
            logprobs=tuple(logprobs),
            parts=tuple(joined(parts)),
        )

    def _choices(self, objects: tuple[Raw, ...]) -> Iterator[_Choice]:
        for each in objects:
            try:
                yield from _object.decode(each).choices[:1]
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                message = "the server of this model sends what is no answer to a chat; tell the operator"
                raise RequestError("internal_error", message) from error

    def _parts(self, said: _Said, *, unparsed: bool) -> list[Part]:
        parts: list[Part] = []
        thought, text = said.reasoning_content or said.reasoning, _text(said.content)
        if thought or text:
            parts += self._whole_call()
        if thought:
            parts.append(Reasoning(thought))
        if text or unparsed:
            parts.append(Content(text, unparsed))
        for place, call in enumerate(said.tool_calls or ()):
            parts += self._take(place if call.index is None else call.index, call.function)
        return parts

    def _take(self, index: int, function: _Function) -> list[Part]:
        done: list[Part] = []
        if self._call is None or self._call[0] != index:
            done = self._whole_call()
            self._call = index, "", []
        _, name, arguments = self._call
        arguments.append(function.arguments or "")
        self._call = index, name or function.name or "", arguments
        return done

    def _whole_call(self) -> list[Part]:
        """What cannot be called is text, as with an answer of our own."""
        if self._call is None:
            return []
        _, name, pieces = self._call
        self._call = None
        arguments = "".join(pieces) or "{}"
        call: Call | None = self._wanted.tools.call(name, arguments)
        if call is None:
            return [Content(f"{name} {arguments}", unparsed_call=True)]
        self._called = True
        return [call]

    def _end(self, event: AnswerEnd) -> AnswerEvent:
        parts = self._whole_call()
        reason = self._wanted.called if event.reason == "stop" and self._called else event.reason
        end = replace(event, reason=reason, stopped_by=self._stopped_by)
        if not parts:
            return end
        self._ready.append(end)
        return Text(choice=0, text="", tokens=0, parts=tuple(parts))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _logprobs(logprobs: _Logprobs | None) -> list[TokenLogprob]:
    """Tokens have no numbers here."""
    drawn = (logprobs.content if logprobs is not None else None) or ()
    return [
        TokenLogprob(0, each.piece, each.logprob, tuple((0, top.piece, top.logprob) for top in each.top_logprobs or ()))
        for each in drawn
    ]
