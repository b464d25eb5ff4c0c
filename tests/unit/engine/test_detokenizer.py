"""Text comes out whole, and no stop string ever does."""

from __future__ import annotations

import codecs
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.detokenizer import Detokenizer

# Few characters, of one to four bytes, so that stop strings and broken characters are frequent.
ALPHABET = "abé中😀"
texts = st.text(ALPHABET, max_size=40)
stops = st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=4)


def decoded(data: bytes) -> str:
    """The bytes as text, without a character that is not whole at the end."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def reference(text: str, stop: list[str]) -> tuple[str, str | None]:
    """The answer and what stopped it, found one character at a time."""
    for end in range(1, len(text) + 1):
        lengths = [len(each) for each in stop if text[:end].endswith(each)]
        if lengths:
            start = end - max(lengths)
            return text[:start], text[start:end]
    return text, None


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    points = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(points)]


def shown(pieces: list[bytes], stop: list[str]) -> tuple[list[str], str | None]:
    detokenizer = Detokenizer(stop)
    parts = []
    for piece in pieces:
        parts.append(detokenizer.push(piece))
        if detokenizer.stopped:
            break
    return [*parts, detokenizer.finish()], detokenizer.stopped_by


@given(texts, st.lists(st.integers(0, 200)), stops)
def test_any_split_gives_the_reference(text: str, cuts: list[int], stop: list[str]) -> None:
    parts, stopped = shown(split(text.encode(), cuts), stop)
    assert ("".join(parts), stopped) == reference(text, stop)


@given(st.binary(max_size=40), st.lists(st.integers(0, 200)), stops)
def test_any_bytes_give_the_reference(data: bytes, cuts: list[int], stop: list[str]) -> None:
    parts, stopped = shown(split(data, cuts), stop)
    assert ("".join(parts), stopped) == reference(decoded(data), stop)


@given(texts, st.lists(st.integers(0, 200)), stops)
def test_nothing_of_a_stop_string_leaks(text: str, cuts: list[int], stop: list[str]) -> None:
    parts, _ = shown(split(text.encode(), cuts), stop)
    assert not any(each in "".join(parts) for each in stop)


@given(texts, st.lists(st.integers(0, 200)))
def test_without_stop_strings_whole_characters_are_not_held_back(text: str, cuts: list[int]) -> None:
    detokenizer = Detokenizer()
    given_so_far = b""
    returned = ""
    for piece in split(text.encode(), cuts):
        given_so_far += piece
        returned += detokenizer.push(piece)
        assert returned == decoded(given_so_far)


def test_a_partial_stop_string_is_held_until_it_is_none() -> None:
    detokenizer = Detokenizer(["###"])
    assert detokenizer.push(b"a#") == "a"
    assert detokenizer.push(b"#") == ""
    assert detokenizer.push(b"b") == "##b"


def test_a_stop_string_over_three_pieces() -> None:
    detokenizer = Detokenizer(["END"])
    assert [detokenizer.push(piece) for piece in (b"xE", b"N", b"Dy")] == ["x", "", ""]
    assert detokenizer.stopped
    assert detokenizer.push(b"more") == ""
    assert detokenizer.finish() == ""


def test_held_text_belongs_to_the_answer_at_its_end() -> None:
    detokenizer = Detokenizer(["END"])
    assert detokenizer.push(b"xEN") == "x"
    assert detokenizer.finish() == "EN"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"a", b"\xc3"], "a"),
        ([b"\xe4", b"\xb8"], ""),
        ([b"\xc3", b"\xa9"], "é"),
        ([b"\xc3", b"a"], "\ufffda"),
        ([b"\xff"], "\ufffd"),
    ],
)
def test_broken_characters(pieces: list[bytes], text: str) -> None:
    assert "".join(shown(pieces, [])[0]) == text
