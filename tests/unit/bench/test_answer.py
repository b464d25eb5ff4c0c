"""Both servers' streams are understood, wherever the network cut them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.answer import read_answer


def stream(*events: bytes) -> bytes:
    """A chunked answer with one chunk per event."""
    blocks = [b"data: " + event + b"\n\n" for event in events]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Id: 10\r\n\r\n" + chunks + b"0\r\n\r\n"


OURS = stream(
    b'{"choices":[{"text":"a"}]}',
    b'{"choices":[{"text":"\xc3\xa9\\n"}]}',
    b'{"choices":[{"text":""}],"usage":{"prompt_tokens":9,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}',
    b"[DONE]",
)
THEIRS = stream(
    b'{"content":"a","stop":false}',
    b'{"content":"\xc3\xa9\\n","stop":false}',
    b'{"content":"","stop":true,"timings":{"cache_n":4,"prompt_n":5,"predicted_n":3}}',
)


@pytest.mark.parametrize("data", [OURS, THEIRS], ids=["ours", "llama-server"])
@given(cuts=st.lists(st.integers(0, 600)))
def test_any_cuts_give_the_same_answer(data: bytes, cuts: list[int]) -> None:
    points = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    pieces = [(float(end), data[start:end]) for start, end in itertools.pairwise(points)]
    answer = read_answer(-1.0, pieces, tokens=3)
    assert (answer.text, answer.error) == ("aé\n", None)
    assert (answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens) == (9, 4, 3)
    assert len(answer.arrivals) == 2, "a chunk without text is no arrival"
    assert answer.ttft > 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "no answer"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}", "HTTP/1.1 503 Service Unavailable"),
        (stream(b'{"content":"a","stop":false}'), "0 of 3 tokens came"),
        (stream(b'{"error":"gone"}'), "gone"),
    ],
)
def test_what_did_not_come_is_an_error(data: bytes, error: str) -> None:
    assert read_answer(0.0, [(1.0, data)], tokens=3).error == error
