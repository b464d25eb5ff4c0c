"""Text on a grid of cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.lines import apart, ascii_only, cells, fit, fitted, line, plain, shorten, width_of, wrapped

TEXT = st.text(alphabet=st.sampled_from("ab 财务é…─"), max_size=20)


@given(TEXT, st.integers(0, 25))
def test_fit_is_exactly_as_wide(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) == width
    assert cell_len(fit(text, width, "right")) == width


@given(TEXT, st.integers(1, 25))
def test_shorten_is_never_wider(text: str, width: int) -> None:
    assert cell_len(shorten(text, width, "~")) <= width


@given(st.lists(TEXT, max_size=5), st.integers(0, 30))
def test_a_line_is_cut_and_padded(texts: list[str], width: int) -> None:
    assert width_of(fitted(line(*texts), width)) == width


def test_apart_keeps_the_right_end() -> None:
    assert plain(apart(line("left side"), line("right"), 12)) == "left siright"
    assert plain(apart(line("a"), line("b"), 5)) == "a   b"


def test_what_is_not_ascii_becomes_question_marks_of_its_width() -> None:
    assert ascii_only("财a…") == "??a?"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, [""]),
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 13, ["one two three"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("ab cdefghijkl", 6, ["ab", "cdefgh", "ijkl"]),
        ("模型已经加载。好", 8, ["模型已经", "加载。好"]),
        # Punctuation does not begin a line.
        ("模型已经，好", 8, ["模型已", "经，好"]),
        ("用 make run 启动", 10, ["用 make", "run 启动"]),
        ("  indented text", 10, ["  indented", "text"]),
    ],
)
def test_texts_are_wrapped_by_what_a_terminal_shows(text: str, width: int, lines: list[str]) -> None:
    assert wrapped(text, width) == lines


def test_all_lines_but_the_first_are_indented_where_that_is_asked_for() -> None:
    assert wrapped("one two three", 8, "  ") == ["one two", "  three"]


@given(st.text("ab  模型，\x1b-", max_size=40), st.integers(4, 20))
def test_nothing_is_lost_and_no_line_is_too_long(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cells(one) <= width for one in lines)
