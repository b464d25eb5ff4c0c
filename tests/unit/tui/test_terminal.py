"""How the dashboard is shown in which terminal."""

from __future__ import annotations

import os
import pty
import threading
from dataclasses import replace

import pytest

from tui.glyphs import ASCII, UTF8
from tui.terminal import Facts, Wishes, glyph_cells, plan

GOOD = Facts(keyboard=True, screen=True, term="xterm-256color", encoding="utf-8", no_color=False, glyph_cells=1)


def test_a_good_terminal_has_it_all() -> None:
    found = plan(GOOD, Wishes())
    assert (found.kind, found.glyphs, found.theme, found.mouse) == ("screen", UTF8, "dark", True)


@pytest.mark.parametrize(
    "facts",
    [
        replace(GOOD, encoding="ascii"),
        replace(GOOD, encoding="gbk"),
        replace(GOOD, glyph_cells=2),
        replace(GOOD, term="vt220"),
    ],
)
def test_without_our_glyphs_it_is_ascii(facts: Facts) -> None:
    assert plan(facts, Wishes()).glyphs is ASCII


def test_a_terminal_that_does_not_answer_is_trusted() -> None:
    assert plan(replace(GOOD, glyph_cells=None), Wishes()).glyphs is UTF8


def test_a_console_has_its_own_colours_and_no_mouse() -> None:
    found = plan(replace(GOOD, term="linux"), Wishes())
    assert (found.theme, found.mouse) == ("ansi", False)


def test_no_color_takes_the_terminals_colours() -> None:
    assert plan(replace(GOOD, no_color=True), Wishes()).theme == "ansi"
    assert plan(replace(GOOD, no_color=True), Wishes(theme="light")).theme == "light"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (replace(GOOD, keyboard=False), "stdin"),
        (replace(GOOD, screen=False), "stderr"),
        (replace(GOOD, term="dumb"), "TERM=dumb"),
        (replace(GOOD, term=""), "TERM=(unset)"),
    ],
)
def test_without_a_screen_it_is_text(facts: Facts, why: str) -> None:
    found = plan(facts, Wishes())
    assert found.kind == "once"
    assert why in found.why


@pytest.mark.parametrize("cells", [1, 2])
def test_a_terminal_is_asked_how_wide_it_draws(cells: int) -> None:
    master, slave = pty.openpty()

    def answer() -> None:
        for _ in range(3):
            asked = b""
            while b"\x1b[6n" not in asked:
                asked += os.read(master, 64)
            os.write(master, f"\x1b[1;{cells + 1}R".encode())

    terminal = threading.Thread(target=answer)
    terminal.start()
    try:
        assert glyph_cells(slave, slave) == cells
    finally:
        terminal.join()
        os.close(master)
        os.close(slave)
