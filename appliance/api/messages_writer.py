"""The events and the body of one answer in Anthropic's shape."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from appliance.api.anthropic_schema import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    ErrorOut,
    Event,
    InputJsonDelta,
    MessageDelta,
    MessageEnd,
    MessageOut,
    MessageStart,
    MessageStop,
    MessageUsage,
    SignatureDelta,
    StopReason,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
)
from appliance.api.envelope import anthropic_error
from appliance.api.shape import WholeAnswer, parts_in
from appliance.api.sse import NamedEvent
from appliance.chat import Call, Content, Part, Reasoning, joined
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, AnswerEvent, ChoiceEnd, Text
from appliance.types import FinishReason, Usage
from appliance.wire import Started

_REASONS: Final[dict[FinishReason, StopReason]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def _stopped(reason: FinishReason, stopped_by: str | None) -> tuple[StopReason, str | None]:
    """What ended it, and the stop sequence where that did; an answer with calls asks for their results first of all."""
    return ("stop_sequence", stopped_by) if reason == "stop" and stopped_by is not None else (_REASONS[reason], None)


def _named(event: Event | ErrorOut) -> NamedEvent:
    name = event.__struct_config__.tag
    assert isinstance(name, str), "every event is tagged"
    return NamedEvent(name, event)


def random_tool_use_id() -> str:
    """Unique among all calls that one conversation will ever have."""
    return f"toolu_{secrets.token_hex(12)}"


class MessageWriter:
    """An AnswerWriter. thinking: false leaves out what the model thought.

    started: what the worker said of the prompt, as far as it is known when the answer begins.
    """

    says_done: Final = False

    def __init__(
        self,
        request_id: str,
        model: str,
        started: Callable[[], Started | None],
        *,
        thinking: bool,
        new_id: Callable[[], str] = random_tool_use_id,
    ) -> None:
        self._request_id = request_id
        self._model = model
        self._started = started
        self._thinking = thinking
        self._new_id = new_id
        self._whole = WholeAnswer(1)
        self._opened = False
        self._index = 0
        self._open: Block | None = None
        self._unparsed = False

    def chunks(self, event: AnswerEvent) -> list[NamedEvent]:
        """See AnswerWriter."""
        opening = [] if self._opened else self._opening()
        self._opened = True
        match event:
            case AnswerEnd():
                events = self._finish(event)
            case Text():
                events = self._delta(event)
            case _:
                raise AssertionError("there is one choice, and nobody else answers for the engine")
        return [_named(each) for each in (*opening, *events)]

    def failed(self, error: RequestError) -> list[NamedEvent]:
        """See AnswerWriter."""
        return [_named(anthropic_error(error, self._request_id))]

    def add(self, event: AnswerEvent) -> None:
        """See AnswerWriter."""
        assert isinstance(event, Text | ChoiceEnd), "the engine answers with text"
        self._whole.add(event)

    def whole(self, usage: Usage) -> bytes:
        """See AnswerWriter."""
        (choice,) = self._whole.choices
        assert choice.reason is not None, "the answer has ended"
        blocks = [self._block(part) for part in joined(self._shown(choice.parts))]
        return msgspec.json.encode(self._message(blocks, usage, *_stopped(choice.reason, choice.stopped_by)))

    def _opening(self) -> list[Event]:
        started = self._started()
        usage = Usage(
            prompt_tokens=0 if started is None else started.prompt_tokens,
            cached_tokens=0 if started is None else started.cached_tokens,
            completion_tokens=0,
        )
        return [MessageStart(self._message([], usage))]

    def _delta(self, event: Text) -> list[Event]:
        return [written for part in self._shown(parts_in(event)) for written in self._write(part)]

    def _finish(self, event: AnswerEnd) -> list[Event]:
        reason, stop = _stopped(event.reason, event.stopped_by)
        end = MessageEnd(stop_reason=reason, stop_sequence=stop, appliance_unparsed_tool_call=self._unparsed or UNSET)
        return [*self._close(), MessageDelta(end, MessageUsage.of(event.usage)), MessageStop()]

    def _message(
        self, blocks: list[Block], usage: Usage, reason: StopReason | None = None, stop: str | None = None
    ) -> MessageOut:
        return MessageOut(
            id=f"msg_{self._request_id}",
            model=self._model,
            content=blocks,
            stop_reason=reason,
            stop_sequence=stop,
            usage=MessageUsage.of(usage),
            appliance_unparsed_tool_call=self._unparsed or UNSET,
        )

    def _shown(self, parts: Iterable[Part]) -> list[Part]:
        """Without what is not to be seen; what only began as a call is text like any other."""
        shown: list[Part] = []
        for part in parts:
            if isinstance(part, Content):
                self._unparsed = self._unparsed or part.unparsed_call
                shown += [Content(part.text)] if part.text else []
            elif self._thinking or not isinstance(part, Reasoning):
                shown.append(part)
        return shown

    def _block(self, part: Part) -> Block:
        match part:
            case Content():
                return TextBlock(part.text)
            case Reasoning():
                return ThinkingBlock(part.text)
            case Call():
                return ToolUseBlock(self._new_id(), part.name, Raw(part.arguments))

    def _write(self, part: Part) -> list[Event]:
        match part:
            case Content():
                return [*self._reopen(TextBlock("")), BlockDelta(self._index, TextDelta(part.text))]
            case Reasoning():
                return [*self._reopen(ThinkingBlock("")), BlockDelta(self._index, ThinkingDelta(part.text))]
            case Call():
                begun = self._begin(ToolUseBlock(self._new_id(), part.name, Raw(b"{}")))
                return [*begun, BlockDelta(self._index, InputJsonDelta(part.arguments)), *self._close()]

    def _reopen(self, block: Block) -> list[Event]:
        """Goes on with a block of this kind."""
        return [] if type(self._open) is type(block) else self._begin(block)

    def _begin(self, block: Block) -> list[Event]:
        closed = self._close()
        self._open = block
        return [*closed, BlockStart(self._index, block)]

    def _close(self) -> list[Event]:
        block, self._open = self._open, None
        if block is None:
            return []
        index = self._index
        self._index += 1
        signed = [BlockDelta(index, SignatureDelta())] if isinstance(block, ThinkingBlock) else []
        return [*signed, BlockStop(index)]
