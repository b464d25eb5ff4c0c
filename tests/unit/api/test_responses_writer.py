"""However an answer is cut, its events add up to the same response."""

from __future__ import annotations

from itertools import count

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.responses_schema import Response, ResponseEvent
from appliance.api.responses_writer import ResponseWriter
from appliance.chat import Call, Content, Part, Reasoning
from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, Text
from appliance.types import FinishReason, TokenLogprob, Usage

USAGE = Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=2, reasoning_tokens=1)
TEXTS = st.text("ab é", min_size=1, max_size=5)
PARTS = st.lists(
    st.one_of(st.builds(Content, TEXTS), st.builds(Reasoning, TEXTS), st.builds(Call, st.just("f"), st.just("{}"))),
    max_size=8,
)


def writer() -> ResponseWriter:
    numbers = count()
    begun = Response(id="resp_1", created_at=1, model="demo")
    return ResponseWriter(begun, now=lambda: 9.0, new_call_id=lambda: f"call_{next(numbers)}")


def end(reason: FinishReason = "stop") -> AnswerEnd:
    return AnswerEnd(choice=0, reason=reason, usage=USAGE, timings=None)


def text(*parts: Part, logprobs: tuple[TokenLogprob, ...] = ()) -> Text:
    return Text(choice=0, text="", tokens=1, parts=parts, logprobs=logprobs)


def events_of(made: ResponseWriter, *events: Text | AnswerEnd) -> list[ResponseEvent]:
    named = [chunk for event in events for chunk in made.chunks(event)]
    out = [msgspec.convert(chunk.data, ResponseEvent, from_attributes=True) for chunk in named]
    assert [chunk.name for chunk in named] == [event.type for event in out]
    return out


def rebuilt(events: list[ResponseEvent]) -> dict[int, str]:
    """The text of every item, as a client adds it up."""
    items: dict[int, str] = {}
    for event in events:
        if event.type == "response.output_item.added":
            assert event.output_index == len(items)
            items[len(items)] = ""
        elif event.type.endswith(".delta"):
            assert event.output_index == len(items) - 1, "an item began before the last was done"
            items[len(items) - 1] += str(event.delta)
    return items


@given(parts=PARTS, cuts=st.lists(st.integers(1, 4), min_size=1))
def test_a_stream_is_the_whole(parts: list[Part], cuts: list[int]) -> None:
    pieces: list[Part] = []
    for index, part in enumerate(parts):
        size = cuts[index % len(cuts)]
        if isinstance(part, Call):
            pieces.append(part)
            continue
        pieces += [type(part)(part.text[start : start + size]) for start in range(0, len(part.text), size)]
    streamed, whole = writer(), writer()
    events = events_of(streamed, *(text(piece) for piece in pieces), end())
    for event in (text(*parts), end()):
        whole.add(event)
    assert streamed.response == whole.response
    assert msgspec.json.decode(whole.whole(USAGE), type=Response) == whole.response
    assert [event.sequence_number for event in events] == list(range(len(events)))
    items = [msgspec.convert(msgspec.to_builtins(item), _Item) for item in whole.response.output]
    assert list(rebuilt(events).values()) == [item.arguments or item.content[0].text for item in items]


class _Text(msgspec.Struct):
    text: str


class _Item(msgspec.Struct):
    arguments: str = ""
    content: list[_Text] = []


def test_what_is_cut_off_says_so() -> None:
    made = writer()
    *_, last = events_of(made, text(Call("f", "{}"), Content("ha")), end("length"))
    assert last.type == "response.incomplete"
    assert made.response.status == "incomplete"
    assert made.response.completed_at is None
    assert [item.status for item in made.response.output] == ["completed", "incomplete"]


def test_an_unparsed_call_is_marked() -> None:
    made = writer()
    made.add(text(Content("<tool_call>{", unparsed_call=True)))
    made.add(end())
    assert made.response.appliance_unparsed_tool_call is True
    assert b"appliance_unparsed" not in msgspec.json.encode(Response(id="r", created_at=1, model="m"))


def test_log_probabilities_are_those_of_the_text() -> None:
    def token(piece: bytes) -> TokenLogprob:
        return TokenLogprob(token=1, piece=piece, logprob=-0.5)

    made = writer()
    events_of(
        made,
        text(Reasoning("hm"), logprobs=(token(b"hm"),)),
        text(logprobs=(token(b"a"),)),
        text(Content("ab"), logprobs=(token(b"b"),)),
        text(logprobs=(token(b"c"),)),
        end(),
    )
    message = msgspec.to_builtins(made.response.output[1])
    assert [entry["token"] for entry in message["content"][0]["logprobs"]] == ["a", "b", "c"]


def test_failures_end_what_was_begun() -> None:
    error = RequestError("engine_crash", "no")
    unbegun = [chunk.name for chunk in writer().failed(error)]
    assert unbegun == ["response.created", "response.in_progress", "error", "response.failed"]
    made = writer()
    made.chunks(text(Content("a")))
    names = [chunk.name for chunk in made.failed(error)]
    assert names[-3:] == ["response.output_item.done", "error", "response.failed"]
    assert made.response.error is not None
    assert (made.response.error.code, made.response.error.appliance_code) == ("server_error", "engine_crash")
