"""Log probabilities in OpenAI's two shapes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.api.logprobs import LOGPROB_MIN, TextLogprobWriter, chat_logprobs
from appliance.types import TokenLogprob


def token(piece: bytes, logprob: float = -0.5, *top: tuple[int, bytes, float]) -> TokenLogprob:
    return TokenLogprob(token=1, piece=piece, logprob=logprob, top=top)


def test_a_token_that_is_part_of_a_character_has_exact_bytes() -> None:
    (half,) = chat_logprobs([token(b"\xe4\xbd", -0.25, (1, b"\xe4\xbd", -0.25), (2, b"a", -3.0))]).content
    assert (half.token, half.bytes, half.logprob) == ("\ufffd", (0xE4, 0xBD), -0.25)
    assert [(entry.token, entry.bytes, entry.logprob) for entry in half.top_logprobs] == [
        ("\ufffd", (0xE4, 0xBD), -0.25),
        ("a", (97,), -3.0),
    ]


def test_impossible_is_a_number() -> None:
    impossible = float("-inf")
    assert chat_logprobs([token(b"a", impossible)]).content[0].logprob == LOGPROB_MIN
    assert TextLogprobWriter().write([token(b"a", impossible)]).token_logprobs == [LOGPROB_MIN]


def test_the_drawn_token_is_among_the_likeliest_and_equal_texts_keep_the_best() -> None:
    written = TextLogprobWriter().write([token(b"z", -4.0, (1, b"\xe4", -0.5), (2, b"\xbd", -1.5), (3, b"a", -2.0))])
    assert written.top_logprobs == [{"\ufffd": -0.5, "a": -2.0, "z": -4.0}]


@given(st.text(max_size=30), st.lists(st.integers(0, 60), max_size=10), st.integers(0, 10))
def test_offsets_are_those_of_the_text_however_it_is_cut(text: str, cuts: list[int], split: int) -> None:
    """Into tokens, and into chunks."""
    data = text.encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    tokens = [token(data[start:end]) for start, end in pairwise(edges)]
    writer = TextLogprobWriter()
    offsets = writer.write(tokens[:split]).text_offset + writer.write(tokens[split:]).text_offset
    assert offsets == [len(data[:edge].decode("utf-8", "ignore")) for edge in edges[:-1]]
