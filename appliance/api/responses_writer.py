"""One response as it grows: its events, and the object that they add up to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from appliance.api.chat_shape import random_call_id
from appliance.api.logprobs import chat_logprobs
from appliance.api.openai_schema import ChatLogprob
from appliance.api.responses_schema import (
    FunctionCallItem,
    IncompleteDetails,
    ItemStatus,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Response,
    ResponseError,
    ResponseEvent,
    ResponseUsage,
)
from appliance.api.shape import LOGPROBS_MAX, parts_in
from appliance.api.sse import NamedEvent
from appliance.chat import Call, Content, Part, Reasoning
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, AnswerEvent, Text
from appliance.types import TokenLogprob, Usage

_OPENAI_CODES: Final = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}


@dataclass(slots=True)
class _Open:
    """The item that text is being added to. number: its place in the output."""

    kind: type[MessageItem | ReasoningItem]
    id: str
    number: int
    text: list[str] = field(default_factory=list)
    logprobs: list[ChatLogprob] = field(default_factory=list)

    def part(self) -> OutputText | ReasoningText:
        text = "".join(self.text)
        return OutputText(text, (), tuple(self.logprobs)) if self.kind is MessageItem else ReasoningText(text)


class ResponseWriter:
    """An AnswerWriter that Keeps. Belongs to one answer.

    begun: the response without what is to come. keep: takes it once it is whole. fingerprint: of who answers, known
    with the first event. response: as it is now. A stream's events, and the response, are the same for the same answer
    however its text is cut, but for the deltas.
    """

    says_done: Final = False

    def __init__(
        self,
        begun: Response,
        *,
        now: Callable[[], float] = time.time,
        new_call_id: Callable[[], str] = random_call_id,
        keep: Callable[[Response], Awaitable[None]] | None = None,
        fingerprint: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.response = begun
        self._now = now
        self._new_call_id = new_call_id
        self._keep = keep
        self._fingerprint = fingerprint
        self._sent = 0
        self._items: list[OutputItem] = []
        self._open: _Open | None = None
        self._held: list[TokenLogprob] = []
        self._logprobs = 0
        self._unparsed = False

    def chunks(self, event: AnswerEvent) -> list[NamedEvent]:
        """See AnswerWriter."""
        return [NamedEvent(made.type, made) for made in self._events(event)]

    def add(self, event: AnswerEvent) -> None:
        """See AnswerWriter."""
        for _ in self._events(event):
            pass

    def whole(self, usage: Usage) -> bytes:
        """See AnswerWriter."""
        return msgspec.json.encode(self.response)

    async def keep(self) -> None:
        """See Keeps."""
        if self._keep is not None:
            await self._keep(self.response)

    def failed(self, error: RequestError) -> list[NamedEvent]:
        """See AnswerWriter: an `error`, and the response as far as it came."""
        return [NamedEvent(made.type, made) for made in self._failure(error)]

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _events(self, event: AnswerEvent) -> Iterator[ResponseEvent]:
        if self._sent == 0:
            yield from self._begin()
        match event:
            case Text():
                self._take_logprobs(event)
                for part in parts_in(event):
                    yield from self._part(part)
            case AnswerEnd():
                yield from self._end(event)
            case _:
                raise AssertionError("there is one choice, and nobody else answers for the engine")

    def _begin(self) -> Iterator[ResponseEvent]:
        self.response = replace(self.response, system_fingerprint=self._fingerprint())
        yield self._event("response.created", response=self.response)
        yield self._event("response.in_progress", response=self.response)

    def _part(self, part: Part) -> Iterator[ResponseEvent]:
        match part:
            case Content():
                self._unparsed = self._unparsed or part.unparsed_call
                yield from self._delta(MessageItem, part.text)
            case Reasoning():
                yield from self._delta(ReasoningItem, part.text)
            case Call():
                yield from self._call(part)

    def _delta(self, kind: type[MessageItem | ReasoningItem], text: str) -> Iterator[ResponseEvent]:
        if not text:
            return
        item = self._open
        if item is None or item.kind is not kind:
            yield from self._close()
            item = yield from self._begin_item(kind)
        item.text.append(text)
        place = _place(item)
        if kind is ReasoningItem:
            # Those of a text that thinks and speaks cannot be told apart; what comes with thought alone is none of it.
            self._held.clear()
            yield self._event("response.reasoning_text.delta", **place, delta=text)
            return
        logprobs = chat_logprobs(self._held).content
        self._held.clear()
        item.logprobs += logprobs
        yield self._event("response.output_text.delta", **place, delta=text, logprobs=tuple(logprobs))

    def _begin_item(self, kind: type[MessageItem | ReasoningItem]) -> Generator[ResponseEvent, None, _Open]:
        number = len(self._items)
        if kind is MessageItem:
            made: OutputItem = MessageItem(id=self._item_id("msg"), role="assistant", status="in_progress")
        else:
            made = ReasoningItem(id=self._item_id("rs"), status="in_progress")
        self._open = item = _Open(kind, made.id, number)
        yield self._event("response.output_item.added", output_index=number, item=made)
        yield self._event("response.content_part.added", **_place(item), part=item.part())
        return item

    def _close(self, status: ItemStatus = "completed") -> Iterator[ResponseEvent]:
        item, self._open = self._open, None
        if item is None:
            return
        place, part = _place(item), item.part()
        if isinstance(part, OutputText):
            done: OutputItem = MessageItem(id=item.id, role="assistant", content=(part,), status=status)
            yield self._event("response.output_text.done", **place, text=part.text, logprobs=part.logprobs)
        else:
            done = ReasoningItem(id=item.id, content=(part,), status=status)
            yield self._event("response.reasoning_text.done", **place, text=part.text)
        yield self._event("response.content_part.done", **place, part=part)
        self._items.append(done)
        yield self._event("response.output_item.done", output_index=item.number, item=done)

    def _call(self, call: Call) -> Iterator[ResponseEvent]:
        yield from self._close()
        self._held.clear()
        number = len(self._items)
        done = FunctionCallItem(
            id=self._item_id("fc"), call_id=self._new_call_id(), name=call.name, arguments=call.arguments
        )
        self._items.append(done)
        place = {"output_index": number, "item_id": done.id}
        begun = replace(done, arguments="", status="in_progress")
        yield self._event("response.output_item.added", output_index=number, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
        yield self._event("response.output_item.done", output_index=number, item=done)

    def _end(self, event: AnswerEnd) -> Iterator[ResponseEvent]:
        if not self._items and self._open is None:
            yield from self._begin_item(MessageItem)
        if self._open is not None and self._open.kind is MessageItem:
            self._open.logprobs += chat_logprobs(self._held).content
        whole = event.reason != "length"
        yield from self._close("completed" if whole else "incomplete")
        self.response = replace(
            self.response,
            status="completed" if whole else "incomplete",
            completed_at=int(self._now()) if whole else None,
            incomplete_details=None if whole else IncompleteDetails(),
            output=tuple(self._items),
            usage=ResponseUsage.of(event.usage),
            appliance_unparsed_tool_call=True if self._unparsed else msgspec.UNSET,
        )
        yield self._event("response.completed" if whole else "response.incomplete", response=self.response)

    def _failure(self, error: RequestError) -> Iterator[ResponseEvent]:
        if self._sent == 0:
            yield from self._begin()
        if self.response.status != "in_progress":
            # It was whole, and its end has not gone out.
            self._sent -= 1
        yield from self._close("incomplete")
        yield self._event("error", code=error.code, message=error.message, param=error.param)
        code: Any = _OPENAI_CODES.get(error.type, "server_error")
        failure = ResponseError(code, error.message, error.code)
        self.response = replace(
            self.response, status="failed", completed_at=None, error=failure, output=tuple(self._items)
        )
        yield self._event("response.failed", response=self.response)

    def _event(self, kind: str, **fields: Any) -> ResponseEvent:
        self._sent += 1
        return ResponseEvent(type=kind, sequence_number=self._sent - 1, **fields)

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self.response.id.removeprefix('resp_')}{len(self._items):02x}"

    def _take_logprobs(self, event: Text) -> None:
        self._held += event.logprobs
        self._logprobs += sum(1 + len(token.top) for token in event.logprobs)
        if self._logprobs > LOGPROBS_MAX:
            message = f"top_logprobs: more than {LOGPROBS_MAX} log probabilities in one answer; ask for fewer"
            raise RequestError("invalid_request", message, param="top_logprobs")


def _place(item: _Open) -> dict[str, Any]:
    return {"item_id": item.id, "output_index": item.number, "content_index": 0}
