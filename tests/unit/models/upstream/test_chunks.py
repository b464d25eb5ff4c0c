"""appliance.models.upstream.chunks"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.models.stream import AnswerEnd, ChoiceEnd, Relayed, Text
from appliance.models.upstream.chunks import AnswerRelay
from appliance.models.upstream.request import UpstreamRequest


def relay(*, n: int = 1, include_usage: bool = False, stream: bool = True, chat: bool = True) -> AnswerRelay:
    return AnswerRelay(
        UpstreamRequest(
            served_as="theirs",
            id="r",
            model="ours",
            principal="p",
            endpoint="chat/completions" if chat else "completions",
            body=b"",
            n=n,
            stream=stream,
            include_usage=include_usage,
            prompt_tokens=9,
            seconds_max=1,
        )
    )


def chunk(delta: dict[str, Any], index: int = 0, reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return json.dumps({"id": "x", "model": "theirs", "choices": [choice], **fields}).encode()


def objects(relayed: Relayed | None) -> list[Any]:
    return [] if relayed is None else [msgspec.json.decode(item) for item in relayed.objects]


def test_numbers_and_unknown_fields_keep_their_spelling() -> None:
    said = relay().chunk(b'{"choices":[{"index":0,"delta":{"content":"a"}}],"x":1.10e2,"y":123456789012345678901}')
    assert said is not None
    assert bytes(said.objects[0]).endswith(b'"x":1.10e2,"y":123456789012345678901,"model":"ours"}')


def test_thoughts_and_calls_are_said_too() -> None:
    calls = [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]
    said = relay().chunk(chunk({"reasoning_content": "hm", "content": "a", "tool_calls": calls}))
    assert said is not None
    (part,) = said.parts
    assert isinstance(part, Text)
    assert part.text == "hma" + json.dumps(calls)


def test_content_in_parts() -> None:
    said = relay().chunk(chunk({"content": [{"type": "text", "text": "a"}]}))
    assert said is not None
    assert isinstance(said.parts[0], Text)


def test_the_end_waits_for_the_usage() -> None:
    answer = relay()
    assert objects(answer.chunk(chunk({}, reason="stop", usage=None))) == []
    assert (
        answer.chunk(json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).encode())
        is None
    )
    assert answer.chunk(b"[DONE]") is None
    last, end = answer.end()
    (only,) = objects(last)
    assert only["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    assert (end.reason, end.usage.prompt_tokens, end.timings) == ("stop", 3, None)


def test_what_comes_after_the_end_goes_before_it() -> None:
    """Some servers send an empty chunk more; clients take the last finish_reason."""
    answer = relay()
    answer.chunk(chunk({}, reason="length"))
    assert objects(answer.chunk(chunk({"content": ""})))
    last, end = answer.end()
    assert objects(last)[0]["choices"][0]["finish_reason"] == "length"
    assert end.reason == "length"


def test_several_choices_end_one_by_one() -> None:
    answer = relay(n=2)
    first = answer.chunk(chunk({}, 1, "tool_calls"))
    assert first is not None
    assert first.parts == (ChoiceEnd(choice=1, reason="tool_calls"),)
    assert objects(first)
    assert objects(answer.chunk(chunk({"content": "a"}, 0)))
    assert objects(answer.chunk(chunk({}, 0, "stop"))) == []
    assert answer.end()[1].reason == "tool_calls"


def test_a_reason_of_its_own_is_a_stop_in_the_records() -> None:
    answer = relay()
    said = answer.chunk(chunk({}, reason="eos_token"))
    assert said is not None
    assert said.parts == (ChoiceEnd(choice=0, reason="stop"),)
    assert objects(answer.end()[0])[0]["choices"][0]["finish_reason"] == "eos_token"


def test_every_chunk_has_choices() -> None:
    assert objects(relay().chunk(b'{"prompt_filter_results": []}')) == [
        {"prompt_filter_results": [], "model": "ours", "choices": []}
    ]
    assert objects(relay().chunk(b'{"choices": null}'))[0]["choices"] == []


@pytest.mark.parametrize("chat", [True, False])
def test_time_is_over(chat: bool) -> None:
    answer = relay(n=2, chat=chat)
    assert answer.cut_off() is None
    answer.chunk(chunk({"content": "a"}, 0, "stop", created=7))
    cut = answer.cut_off()
    assert cut is not None
    last, end = cut
    (only,) = objects(last)
    said: dict[str, object] = {"delta": {}} if chat else {"text": ""}
    assert only == {
        "id": "x",
        "model": "ours",
        "created": 7,
        "choices": [{"index": 1, **said, "finish_reason": "length"}],
    }
    assert (end.reason, end.usage.prompt_tokens, end.usage.completion_tokens) == ("length", 9, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"{nonsense",
        b"[1]",
        b'"text"',
        b"\xff",
        b'{"choices": 1}',
        b'{"choices": [1]}',
        b'{"choices": [{"index": -1}]}',
        b'{"choices": [{"index": 1}]}',
        b'{"choices": [{"index": 0, "finish_reason": 3}]}',
        b'{"choices": [], "usage": 1}',
        b"[" * 100_000,
    ],
)
def test_no_openai_answer(data: bytes) -> None:
    with pytest.raises(ValueError, match="sends"):
        relay().chunk(data)
    with pytest.raises(ValueError, match="sends"):
        relay(stream=False).whole(data)


def test_the_error_of_an_answer() -> None:
    with pytest.raises(RequestError, match="too long") as failed:
        relay().chunk(b'{"error": {"message": "too long", "code": "context_length_exceeded"}}')
    assert failed.value.code == "context_length_exceeded"
    with pytest.raises(RequestError) as failed:
        relay().chunk(b'{"error": {"message": "bad key", "code": "invalid_api_key"}}')
    assert failed.value.code == "engine_crash"
    assert relay().chunk(b'{"error": null, "choices": []}') is not None


def test_an_end_that_is_none() -> None:
    answer = relay()
    with pytest.raises(ValueError, match="in the middle"):
        answer.end()
    answer.chunk(b"[DONE]")
    with pytest.raises(ValueError, match="in the middle"):
        answer.end()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "index", "delta", "content", "usage", "error", "tool_calls"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5))
def test_whatever_comes_is_an_answer_or_refused(chunks: list[Any]) -> None:
    answer = relay(n=2, include_usage=True)
    try:
        for item in chunks:
            answer.chunk(json.dumps(item).encode())
        _, end = answer.end()
    except (ValueError, RequestError):
        return
    assert isinstance(end, AnswerEnd)
