"""Frames survive any split of the stream; garbage is a WireError."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import wire
from appliance.errors import WireError
from appliance.types import ChatMessage, ChatPrompt, SamplingParams, TextPrompt, TokenPrompt
from appliance.wire import Abort, Add, Delta, Failed, Loading, Started, Step

prompts = st.one_of(
    st.builds(TextPrompt, text=st.text()),
    st.builds(TokenPrompt, tokens=st.lists(st.integers(0, 2**31)).map(tuple)),
    st.builds(
        ChatPrompt,
        messages=st.lists(st.builds(ChatMessage, role=st.just("user"), content=st.text()), min_size=1).map(tuple),
    ),
)
adds = st.builds(
    Add,
    number=st.integers(1, 2**31),
    cache_domain=st.text(max_size=8),
    prompt=prompts,
    sampling=st.builds(SamplingParams, seed=st.none() | st.integers(-(2**63), 2**63 - 1)),
    max_tokens=st.none() | st.integers(1, 2**31),
    stop=st.lists(st.text(min_size=1), max_size=3).map(tuple),
)
to_worker = st.lists(st.one_of(adds, st.builds(Abort, number=st.integers(0, 2**40))))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(to_worker, st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_gives_the_same_messages(messages: list[wire.ToWorker], places: list[int]) -> None:
    reader = wire.worker_reader()
    stream = b"".join(wire.encode(message) for message in messages)
    assert [message for piece in cut(stream, places) for message in reader.feed(piece)] == messages


def test_a_step_carries_every_kind_of_event() -> None:
    events = (
        Started(number=1, prompt_tokens=2, cached_tokens=1),
        Delta(number=1, text="é", tokens=1),
        Failed(number=2, code="context_length_exceeded", message="long", details={"n_ctx": 5}),
    )
    reader = wire.daemon_reader()
    assert reader.feed(wire.encode(Step(events=events, running=1)) + wire.encode(Loading(fraction=0.5))) == [
        Step(events=events, running=1),
        Loading(fraction=0.5),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x02{}",
        wire.encode(Loading(fraction=0.1)),
        b"\x00\x00\x03\xe8" + b"\x91" * 1000,
    ],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        wire.worker_reader().feed(data)


def test_a_frame_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FRAME_BYTES_MAX", 10)
    with pytest.raises(WireError, match="larger than the limit"):
        wire.encode(Loading(fraction=0.123456789))
