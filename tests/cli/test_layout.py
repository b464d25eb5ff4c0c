"""Plain data as text: nothing is cut, whatever the terminal's width, and nothing drives it."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from appliance.cli.layout import WORD_CHARS_MAX, facts, records, table

KEYS = [
    ("4fTq0Zk2LmNp", "dify", "active", "2026-12-31 23:59", "2026-11-25 18:00", "", "staging of the second site"),
    ("aaaaaaaaaaaa", "a-client-with-a-longer-name", "retiring", "2026-12-01 00:00", "never", "4fTq0Zk2LmNp", ""),
]
COLUMNS = ("key id", "client", "state", "works until (UTC)", "last used (UTC)", "successor", "label")


def test_a_table_as_wide_as_it_is() -> None:
    assert table(("key id", "client", "nothing"), [("4fTq", "dify", ""), ("aaaa", "b", None)], None) == (
        "KEY ID  CLIENT\n4fTq    dify\naaaa    b"
    )


def test_nothing_to_show() -> None:
    assert table(("a", "b"), [], 80) == table(("a",), [[""]], None) == records(("a",), []) == "none"


def test_a_table_that_does_not_fit_folds_between_words_and_keeps_ids_whole() -> None:
    text = table(COLUMNS, KEYS, 80)
    assert max(map(len, text.split("\n"))) <= 80
    for row in KEYS:
        for cell in (row[0], row[5]):
            assert cell in text
    assert "2026-12-31" in text
    assert "23:59" in text
    assert "…" not in text


def test_what_does_not_even_fold_becomes_one_fact_a_line() -> None:
    text = table(COLUMNS, KEYS, 40)
    assert text.split("\n")[:2] == ["key id             4fTq0Zk2LmNp", "client             dify"]
    assert "\n\nkey id             aaaaaaaaaaaa\n" in text
    assert "2026-12-31 23:59" in text


WORDS = st.text("abc-é漢 1", max_size=60)


@settings(max_examples=40)
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=4), st.one_of(st.none(), st.integers(10, 120)))
def test_every_character_is_there_and_no_line_too_long(rows: list[tuple[str, str, str]], width: int | None) -> None:
    text = table(("one", "two", "three"), rows, width)
    shown = re.sub(r"\s", "", text)
    for row in rows:
        for cell in row:
            # A cell that folds is spread over lines, among the others.
            for word in cell.split():
                if cell_len(word) <= WORD_CHARS_MAX:
                    assert word in text
                assert set(word) <= set(shown)
    if width is not None and "漢" not in text and text.startswith(("ONE", "TWO", "THREE")):
        assert max(map(cell_len, text.split("\n"))) <= width


def test_what_clients_chose_cannot_drive_the_terminal() -> None:
    labels = ["\x1b[31mred\x1b[0m", "[bold]x[/bold] :smile: [/", "a\u202eb\x9b", "two\nlines"]
    text = table(("label",), [(label,) for label in labels], 80)
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text
    assert "[bold]x[/bold] :smile: [/" in text
    assert "\u202e" not in text
    assert "two\\x0alines" in text
    assert facts({"a\x1b": "b\x1b", "c": ["\x1b"], "d": {"e\x1b": 1}}, 80).count("\\x1b") == 4


def test_facts_one_a_line_in_sections() -> None:
    found = {
        "running": True,
        "generation": 12,
        "degraded": [],
        "ending_soon": ["the server certificate: 2027-01-01 00:00 UTC"],
        "notes": ["one", "two words and more that do not fit into the width of this terminal"],
        "models": {"demo": "ready", "a-much-longer-name": "loading"},
        "connections": {"api": {"accepted": 1, "denied_rate": 0.5, "since": None}},
        "empty": {},
    }
    assert facts(found, 40) == (
        "running      yes\n"
        "generation   12\n"
        "degraded     none\n"
        "ending soon\n"
        "  - the server certificate: 2027-01-01\n"
        "    00:00 UTC\n"
        "notes\n"
        "  - one\n"
        "  - two words and more that do not fit\n"
        "    into the width of this terminal\n"
        "models\n"
        "  demo                ready\n"
        "  a-much-longer-name  loading\n"
        "connections\n"
        "  api\n"
        "    accepted     1\n"
        "    denied rate  0.5\n"
        "    since        -\n"
        "empty        none"
    )
