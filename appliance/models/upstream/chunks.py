"""What another server says, from its JSON to what goes out and what of it is recorded. Pure.

The objects go out as they came, with every field we do not know, but for what our API promises: the name the client
knows the model by, `choices` in every chunk, the usage on the last chunk with a choice, and a chunk of its own for it
only where it was asked for.
"""

from __future__ import annotations

from typing import Any, Final, cast, get_args

import msgspec
from msgspec import Raw, Struct

from appliance.models.stream import AnswerEnd, ChoiceEnd, Relayed, Text
from appliance.models.upstream.refusal import refusal_in_answer
from appliance.models.upstream.request import UpstreamRequest
from appliance.safe_text import safe_text
from appliance.types import FinishReason, Usage

# What stands for a token where a server gives no usage; our estimate of prompts uses the same.
_CHARS_PER_TOKEN: Final = 4
_REASONS: Final = frozenset(get_args(FinishReason))
_NULL: Final = Raw(b"null")
FINGERPRINT_CHARS_MAX: Final = 128


class _Message(Struct, frozen=True):
    """A delta or a whole message. What is said is any of these; content may be a list of parts."""

    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Raw = _NULL


class _Choice(Struct, frozen=True):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


_fields: Final = msgspec.json.Decoder(dict[str, Raw])
_choices: Final = msgspec.json.Decoder(list[_Choice] | None)
_usage: Final = msgspec.json.Decoder(_Usage | None)


class AnswerRelay:
    """The objects of one answer, in the order in which they come.

    done: the server has said that nothing follows. fingerprint: its `system_fingerprint`, once it has said it. Every
    method raises ValueError for what is no OpenAI answer; the message goes on from the server's name.
    """

    def __init__(self, request: UpstreamRequest) -> None:
        self._request = request
        self._model = Raw(msgspec.json.encode(request.model))
        self._open = set(range(request.n))
        self._usage: Usage | None = None
        self._usage_raw: Raw | None = None
        self._completion_tokens = 0
        # The chunk that ends the last choice waits for the usage, which comes after it.
        self._held: dict[str, Raw] | None = None
        self._last: dict[str, Raw] = {}
        self._reason: FinishReason = "stop"
        self.done = False
        self.fingerprint: str | None = None

    def chunk(self, data: bytes) -> Relayed | None:
        """One event of a stream. Raises RequestError for one that says what failed."""
        if self.done:
            return None
        if data == b"[DONE]":
            self.done = True
            return None
        fields = self._read(data)
        choices = self._choices(fields)
        self._count(fields, choices)
        fields["model"] = self._model
        if not choices:
            # The usage alone: it goes out with the end.
            return None if "usage" in fields else Relayed(objects=(_encoded({**fields, "choices": Raw(b"[]")}),))
        self._last = fields
        parts = self._parts(choices)
        if not self._request.include_usage and fields.get("usage") == _NULL:
            del fields["usage"]
        if not self._open and self._held is None and any(choice.finish_reason for choice in choices):
            self._held = fields
            return Relayed(objects=(), parts=parts) if parts else None
        return Relayed(objects=(_encoded(fields),), parts=parts)

    def end(self) -> tuple[Relayed, AnswerEnd]:
        """The end of a stream that the server has finished. Raises ValueError where it has not."""
        if self._held is not None:
            return self._ended([self._held])
        if not self.done or not self._last:
            raise ValueError("ended the connection in the middle of an answer")
        return self._ended([{**self._last, "choices": Raw(b"[]")}])

    def cut_off(self) -> tuple[Relayed, AnswerEnd] | None:
        """Our own end of a stream whose time is over: `length` for what is unfinished; None where nothing has come."""
        if not self._last:
            return None
        if self._held is not None:
            return self._ended([self._held])
        said: dict[str, object] = {"text": ""} if self._request.endpoint == "completions" else {"delta": {}}
        ends = [
            {
                **{name: value for name, value in self._last.items() if name != "usage"},
                "choices": Raw(msgspec.json.encode([{"index": index, **said, "finish_reason": "length"}])),
            }
            for index in sorted(self._open)
        ]
        self._reason = "length"
        return self._ended(ends)

    def whole(self, data: bytes) -> tuple[Relayed, AnswerEnd]:
        """The body of an answer that was not streamed. Raises RequestError for one that says what failed."""
        fields = self._read(data)
        choices = self._choices(fields)
        if not choices:
            raise ValueError("sends an answer without choices")
        self._count(fields, choices)
        parts = self._parts(choices, whole=True)
        fields["model"] = self._model
        self.done = True
        return Relayed(objects=(_encoded(fields),), parts=parts), self._answer_end()

    @property
    def usage(self) -> Usage:
        """As the server counted, else as we did."""
        return self._usage or Usage(
            prompt_tokens=self._request.prompt_tokens, completion_tokens=self._completion_tokens
        )

    def _ended(self, ends: list[dict[str, Raw]]) -> tuple[Relayed, AnswerEnd]:
        *others, last = ends
        objects = [_encoded(fields) for fields in others]
        if self._usage_raw is not None:
            objects.append(_encoded({**last, "usage": self._usage_raw}))
            if self._request.include_usage:
                objects.append(_encoded({**last, "choices": Raw(b"[]"), "usage": self._usage_raw}))
        else:
            objects.append(_encoded(last))
        return Relayed(objects=tuple(objects)), self._answer_end()

    def _answer_end(self) -> AnswerEnd:
        return AnswerEnd(choice=self._request.n - 1, reason=self._reason, usage=self.usage, timings=None)

    def _read(self, data: bytes) -> dict[str, Raw]:
        try:
            fields = _fields.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError("sends what is no JSON object") from error
        if fields.get("error", _NULL) != _NULL:
            raise refusal_in_answer(data)
        if self.fingerprint is None and (raw := fields.get("system_fingerprint", _NULL)) != _NULL:
            self.fingerprint = _fingerprint(raw)
        return fields

    def _choices(self, fields: dict[str, Raw]) -> list[_Choice]:
        try:
            choices = _choices.decode(fields.get("choices", _NULL)) or []
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError("sends choices that are none of OpenAI's") from error
        if any(not 0 <= choice.index < self._request.n for choice in choices):
            raise ValueError("sends a choice that was not asked for")
        return choices

    def _count(self, fields: dict[str, Raw], choices: list[_Choice]) -> None:
        """The last usage counts; it may come with any chunk, and be the sum so far."""
        if (raw := fields.get("usage", _NULL)) == _NULL:
            return
        try:
            usage = _usage.decode(raw)
        except msgspec.DecodeError as error:
            raise ValueError("sends a usage that is none of OpenAI's") from error
        if usage is None or usage.prompt_tokens is None:
            return
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        self._usage = Usage(
            prompt_tokens=max(0, usage.prompt_tokens),
            completion_tokens=max(0, usage.completion_tokens or 0),
            cached_tokens=max(0, cached or 0),
        )
        self._usage_raw = Raw(bytes(raw))

    def _parts(self, choices: list[_Choice], *, whole: bool = False) -> tuple[Text | ChoiceEnd, ...]:
        parts: list[Text | ChoiceEnd] = []
        for choice in choices:
            if text := _said(choice):
                # A chunk is a token or some; without a usage there is no better count.
                tokens = 1 + len(text) // _CHARS_PER_TOKEN if whole else 1
                self._completion_tokens += tokens
                parts.append(Text(choice=choice.index, text=text, tokens=tokens))
            if choice.finish_reason and choice.index in self._open:
                self._open.remove(choice.index)
                reason = _reason(choice.finish_reason)
                if reason != "stop":
                    self._reason = reason
                parts.append(ChoiceEnd(choice=choice.index, reason=reason))
        return tuple(parts)


def _fingerprint(raw: Raw) -> str | None:
    """What a server calls its version, for the records; whatever else it sends goes out all the same."""
    try:
        said = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return safe_text(said, FINGERPRINT_CHARS_MAX) if isinstance(said, str) else None


def _said(choice: _Choice) -> str:
    """All that is said, thoughts and calls included, as text."""
    message = choice.delta or choice.message
    if message is None:
        return choice.text or ""
    content = message.content
    said = content if isinstance(content, str) else msgspec.json.encode(content).decode() if content else ""
    calls = "" if bytes(message.tool_calls) in (b"null", b"[]") else bytes(message.tool_calls).decode(errors="replace")
    return (message.reasoning_content or message.reasoning or "") + said + calls


def _reason(said: str) -> FinishReason:
    """Names that only some server knows are a `stop` in our records; the client gets them as they are."""
    return cast(FinishReason, said) if said in _REASONS else "stop"


def _encoded(fields: dict[str, Raw]) -> Raw:
    return Raw(msgspec.json.encode(fields))
