"""Log probabilities in OpenAI's two shapes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.api.logprobs import LOGPROB_MIN, TextLogprobWriter, chat_logprobs, joined_logprobs
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


def test_a_prompt_of_tokens_is_told_as_they_are_written() -> None:
    writer = TextLogprobWriter()
    text, told = writer.write_prompt(
        [token(b"<s>", 0.0), token(b"\xc3", -1.0), token(b"\xa9", -2.0, (7, b"e", -0.5))], None
    )
    assert text == "<s>é"
    assert told.tokens == ["<s>", "\ufffd", "\ufffd"]
    assert told.token_logprobs == [None, -1.0, -2.0]
    assert told.top_logprobs == [None, {"\ufffd": -1.0}, {"e": -0.5, "\ufffd": -2.0}]
    assert told.text_offset == [0, 3, 3]
    assert writer.write([token(b"!")]).text_offset == [4]


def test_a_prompt_of_text_is_told_as_it_was_written() -> None:
    """Its tokens may begin with one that is not in it, and with a space."""
    for pieces, offsets in (
        ([b"<s>", b" Hi", b" you"], [0, 0, 2]),
        ([b"Hi", b" you"], [0, 2]),
        ([b"<s>", b"Hi", b" you"], [0, 0, 2]),
        ([b"hi", b" YOU", b"!!!!!!", b"?"], [0, 0, 4, 6]),
    ):
        writer = TextLogprobWriter()
        text, told = writer.write_prompt([token(piece) for piece in pieces], "Hi you")
        assert (text, told.text_offset) == ("Hi you", offsets)
        assert writer.write([token(b"!")]).text_offset == [6]


def test_two_runs_of_tokens_are_one() -> None:
    writer = TextLogprobWriter()
    _, prompt = writer.write_prompt([token(b"a"), token(b"b")], None)
    both = joined_logprobs(prompt, writer.write([token(b"c")]))
    assert (both.tokens, both.text_offset) == (["a", "b", "c"], [0, 1, 2])
    assert both.token_logprobs == [None, -0.5, -0.5]
    assert len(both.top_logprobs) == 3
