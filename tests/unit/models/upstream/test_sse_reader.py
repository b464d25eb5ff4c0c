"""appliance.models.upstream.sse_reader"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.models.upstream.sse_reader import SseReader

STREAM = b': hello\n\ndata: {"a": 1}\n\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\nid: 1\n\ndata: [DONE]\n\ndata: cut'
EVENTS = [b'{"a": 1}', b"two\nlines", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_however_it_is_cut_the_events_are_the_same(cuts: list[int]) -> None:
    reader, places = SseReader(), [0, *sorted(cuts), len(STREAM)]
    fed = [event for begin, end in pairwise(places) for event in reader.feed(STREAM[begin:end])]
    assert fed == EVENTS


def test_an_event_has_a_bound_and_a_stream_has_none() -> None:
    reader = SseReader(event_bytes_max=100)
    for _ in range(100):
        assert reader.feed(b"data: " + b"x" * 60 + b"\n\n") == [b"x" * 60]
        assert reader.feed(b": " + b"x" * 60 + b"\n\n") == []
    with pytest.raises(ValueError, match="more than 100 bytes"):
        for _ in range(4):
            reader.feed(b"data: " + b"x" * 30 + b"\n")


def test_a_line_that_never_ends() -> None:
    reader = SseReader(event_bytes_max=100)
    with pytest.raises(ValueError, match="more than"):
        for _ in range(60):
            reader.feed(b"xx")


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    SseReader().feed(data)
