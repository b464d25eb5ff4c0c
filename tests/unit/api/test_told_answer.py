"""What another server says of a chat, as parts."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest

from appliance.api.field_names import FieldNames
from appliance.api.parsed import AnswerTerms
from appliance.api.told_answer import ToldAnswer
from appliance.chat import Call, Content, Part, Reasoning, Tools
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, AnswerEvent, Origin, Relayed, Text
from appliance.types import FinishReason, TokenLogprob, Usage
from appliance.wire import Started

END = AnswerEnd(choice=0, reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=1), timings=None)
WANTED = AnswerTerms(tools=Tools([{"type": "function", "function": {"name": "f"}}]))
NAMES = FieldNames({"messages": "input"})


class Source:
    """An AnswerSource with a script."""

    started: Started | None = None
    attempts = 1
    origin: Origin | None = None

    def __init__(self, *events: AnswerEvent | RequestError | None) -> None:
        self._events = deque(events)

    def nudge(self) -> None: ...

    def expire(self) -> None: ...

    async def next(self) -> AnswerEvent | None:
        event = self._events.popleft()
        if isinstance(event, RequestError):
            raise event
        return event


def relayed(*choices: dict[str, Any]) -> Relayed:
    return Relayed(objects=tuple(msgspec.Raw(msgspec.json.encode({"choices": [choice]})) for choice in choices))


def delta(**said: Any) -> dict[str, Any]:
    return {"delta": said}


async def read(*events: AnswerEvent | None) -> tuple[list[Part], AnswerEnd]:
    answer = ToldAnswer(Source(*events), WANTED, NAMES)
    parts: list[Part] = []
    while not isinstance(event := await answer.next(), AnswerEnd):
        if event is not None:
            assert isinstance(event, Text)
            parts += event.parts or ()
    return parts, event


async def test_thoughts_texts_and_calls_in_their_order() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ":1}"}}
    parts, end = await read(
        relayed(delta(role="assistant", content=""), delta(reasoning="h"), delta(reasoning_content="m")),
        None,
        relayed(delta(content="a")),
        relayed(delta(tool_calls=[call]), delta(tool_calls=[rest])),
        relayed(delta(tool_calls=[{"index": 1, "function": {"name": "f"}}])),
        END,
    )
    assert parts == [Reasoning("hm"), Content("a"), Call("f", '{"a":1}'), Call("f", "{}")]
    assert end.reason == "tool_calls"


@pytest.mark.parametrize(("name", "arguments"), [("g", "{}"), ("f", "[1]"), ("f", '{"a"'), (None, "{}")])
async def test_what_cannot_be_called_is_text(name: str | None, arguments: str) -> None:
    parts, end = await read(
        relayed({"message": {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}}), END
    )
    assert parts == [Content(f"{name or ''} {arguments}", unparsed_call=True)]
    assert end.reason == "stop"


async def test_a_list_of_texts_and_a_flag_of_an_appliance() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "image_url"}, 7, {"type": "text", "text": "b"}]
    parts, _ = await read(relayed({"message": {"content": content}, "appliance_unparsed_tool_call": True}), END)
    assert parts == [Content("ab", unparsed_call=True)]


@pytest.mark.parametrize(("reason", "stop"), [("stop", "END"), ("length", None)])
async def test_how_it_ended(reason: FinishReason, stop: str | None) -> None:
    _, end = await read(
        relayed({**delta(content="a"), "stop_reason": stop or 7}), msgspec.structs.replace(END, reason=reason)
    )
    assert (end.reason, end.stopped_by) == (reason, stop)


async def test_log_probabilities() -> None:
    top = [{"token": "b", "logprob": -0.25}]
    drawn = {"token": "\ufffd", "logprob": -0.5, "bytes": [195], "top_logprobs": top}
    answer = ToldAnswer(Source(relayed({**delta(content="x"), "logprobs": {"content": [drawn]}})), WANTED, NAMES)
    event = await answer.next()
    assert isinstance(event, Text)
    assert event.logprobs == (TokenLogprob(0, b"\xc3", -0.5, ((0, b"b", -0.25),)),)


async def test_what_is_no_chat_fails_and_refusals_name_our_fields() -> None:
    broken = Relayed(objects=(msgspec.Raw(b'{"choices":[{"delta":{"tool_calls":"f"}}]}'),))
    with pytest.raises(RequestError, match="no answer to a chat"):
        await ToldAnswer(Source(broken), WANTED, NAMES).next()
    refusal = RequestError("context_length_exceeded", "messages: too long", param="messages")
    with pytest.raises(RequestError, match="input: too long") as refused:
        await ToldAnswer(Source(refusal), WANTED, NAMES).next()
    assert refused.value.param == "input"
