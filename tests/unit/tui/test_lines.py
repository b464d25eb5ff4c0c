"""Text on a grid of cells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.lines import apart, ascii_only, fit, fitted, line, plain, shorten, width_of

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
