"""A stream of events makes the same message as the whole answer, whatever the answer's parts and however they come."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.messages_writer import MessageWriter
from appliance.api.sse import NamedEvent
from appliance.chat import Call, Content, Part, Reasoning
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, AnswerEvent, Text
from appliance.types import Usage
from appliance.wire import Started

USAGE = Usage(prompt_tokens=9, completion_tokens=5, cached_tokens=4, reasoning_tokens=2)
STARTED = Started(number=1, prompt_tokens=9, cached_tokens=4)

parts = st.one_of(
    st.builds(Content, st.text(max_size=4), st.booleans()),
    st.builds(Reasoning, st.text(min_size=1, max_size=4)),
    st.builds(Call, st.sampled_from(["f", "g"]), st.sampled_from(["{}", '{"a":[1,"é"]}'])),
)
answers = st.lists(st.lists(parts, max_size=3), max_size=5)


def writer(*, thinking: bool = True) -> MessageWriter:
    numbers: Iterator[int] = itertools.count()
    return MessageWriter("r", "m", lambda: STARTED, thinking=thinking, new_id=lambda: f"toolu_{next(numbers)}")


def events(answer: list[list[Part]]) -> list[AnswerEvent]:
    texts = [Text(choice=0, text="x", tokens=1, parts=tuple(some)) for some in answer]
    return [*texts, AnswerEnd(choice=0, reason="stop", usage=USAGE, timings=None)]


def read(chunks: list[NamedEvent]) -> dict[str, Any]:
    """A message out of its events, as clients put it together; asserts their order."""
    message: dict[str, Any] = {}
    open_at: int | None = None
    for chunk in chunks:
        event = msgspec.json.decode(msgspec.json.encode(chunk.data))
        assert event["type"] == chunk.name
        match chunk.name:
            case "message_start":
                assert not message
                message = event["message"]
            case "content_block_start":
                assert open_at is None
                open_at = event["index"]
                assert open_at == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == open_at
                block, delta = message["content"][-1], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "input_json_delta":
                        block["input"] = json.loads(delta["partial_json"])
            case "content_block_stop":
                assert event["index"] == open_at
                open_at = None
            case "message_delta":
                message |= event["delta"]
                message["usage"] = event["usage"]
    assert open_at is None
    assert chunks[-1].name == "message_stop"
    return message


@given(answers, st.booleans())
def test_a_stream_makes_the_whole_answer(answer: list[list[Part]], thinking: bool) -> None:
    streaming, whole = writer(thinking=thinking), writer(thinking=thinking)
    chunks = []
    for event in events(answer):
        chunks += streaming.chunks(event)
        whole.add(event)
    assert read(chunks) == msgspec.json.decode(whole.whole(USAGE))


def test_the_start_knows_the_prompt() -> None:
    (start, *_) = writer().chunks(events([])[0])
    usage = msgspec.to_builtins(start.data)["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (5, 4, 0)


def test_a_failure_is_an_error_event() -> None:
    (event,) = writer().failed(RequestError("queue_full", "full", param="model", details={"n": 3}))
    assert event.name == "error"
    assert msgspec.to_builtins(event.data) == {
        "type": "error",
        "error": {
            "type": "overloaded_error",
            "message": "full",
            "details": {"error_code": "queue_full", "param": "model", "n": 3},
        },
        "request_id": "r",
    }
