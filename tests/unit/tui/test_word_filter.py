"""Words that are all to be there."""

from __future__ import annotations

import pytest

from tui.word_filter import WordFilterError, word_filter

FIELDS = {"actor": lambda row: row[0], "action": lambda row: row[1]}
ROWS = (("wang", "model.load"), ("li", "key.rotate"), ("wang", "key.revoke"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0, 1, 2]),
        ("WANG", [0, 2]),
        ("actor:wang key", [2]),
        ("!actor:wang", [1]),
        ("action:key !rotate", [2]),
        ('"model.load"', [0]),
    ],
)
def test_which_rows_pass(text: str, expected: list[int]) -> None:
    matches = word_filter(text, FIELDS)
    assert [number for number, row in enumerate(ROWS) if matches is None or matches(row)] == expected


@pytest.mark.parametrize(("text", "said"), [('"open', "quote"), ("who:wang", "who is no field; known: actor, action")])
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(WordFilterError, match=said):
        word_filter(text, FIELDS)
