"""The dashboard in a real terminal: how it begins, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from bench.terminal import Terminal

pytestmark = pytest.mark.slow
COMMAND = (sys.executable, "-m", "appliance", "top", "--demo", "--no-mouse")
_START_SECONDS = 60.0
# Whoever reads for so long reads to the end.
_END_SECONDS = 20.0


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(COMMAND, 80, 24)
    try:
        # The probe of glyph widths goes unanswered: this is no terminal that talks back.
        assert made.read(_START_SECONDS, until=b"appliance-01") is not None
        made.read(1.0)
        yield made
    finally:
        made.close()


def test_sigterm_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.signal(signal.SIGTERM)
    terminal.read(_END_SECONDS)
    assert terminal.wait(_END_SECONDS) == 0
    assert b"\x1b[?1049l" in terminal.seen
    assert b"\x1b[?25h" in terminal.seen


def test_q_leaves(terminal: Terminal) -> None:
    terminal.press("q")
    terminal.read(_END_SECONDS)
    assert terminal.wait(_END_SECONDS) == 0


def test_it_ends_when_its_terminal_is_gone() -> None:
    # Some wrappers ignore the hang-up, for themselves and for what they start.
    made = Terminal(("sh", "-c", f"trap '' HUP; {' '.join(COMMAND)}; true"), 80, 24)
    try:
        assert made.read(_START_SECONDS, until=b"appliance-01") is not None
        made.hang_up()
        assert made.wait(_END_SECONDS) is not None
    finally:
        made.close()


def test_no_color_sends_no_colour() -> None:
    made = Terminal(COMMAND, 80, 24, {"NO_COLOR": "1"})
    try:
        assert made.read(_START_SECONDS, until=b"appliance-01") is not None
        made.read(1.0)
        assert b"38;" not in made.seen
        assert b"48;" not in made.seen
    finally:
        made.close()


def test_ascii_sends_ascii_alone() -> None:
    made = Terminal((*COMMAND, "--ascii"), 80, 24)
    try:
        assert made.read(_START_SECONDS, until=b"appliance-01") is not None
        for key in "1234567?":
            made.press(key)
            made.read(0.5)
        assert made.seen.isascii()
    finally:
        made.close()


def test_a_dumb_terminal_gets_text() -> None:
    made = Terminal(COMMAND, 80, 24, {"TERM": "dumb"})
    try:
        made.read(_START_SECONDS)
        assert made.wait(_END_SECONDS) == 0
        assert b"TERM=dumb can only show text" in made.seen
        assert b"last action" in made.seen
        assert b"\x1b" not in made.seen
    finally:
        made.close()


def test_it_fits_after_the_terminal_is_resized(terminal: Terminal) -> None:
    assert shows(terminal, 60, 15, b"terminal too small")
    assert shows(terminal, 100, 30, b"Serving")


def test_a_size_that_the_shell_exports_does_not_hold_it() -> None:
    made = Terminal(COMMAND, 100, 30, {"COLUMNS": "100", "LINES": "30"})
    try:
        assert made.read(_START_SECONDS, until=b"appliance-01") is not None
        assert shows(made, 60, 15, b"terminal too small")
    finally:
        made.close()


def shows(terminal: Terminal, width: int, height: int, text: bytes) -> bool:
    """Pulls at the window until it is seen: a change that comes while it starts is only seen with the next."""
    for more in range(6):
        terminal.resize(width, height + more)
        if terminal.read(_START_SECONDS / 6, until=text) is not None:
            return True
    return False


def test_stderr_in_a_file_is_not_drawn_on() -> None:
    before = time.monotonic()
    made = Terminal(("sh", "-c", f"{' '.join(COMMAND)} 2>{os.devnull}"), 80, 24)
    try:
        made.read(_START_SECONDS)
        assert made.wait(_END_SECONDS) == 0
        assert b"last action" in made.seen
        assert b"\x1b[?1049h" not in made.seen
    finally:
        made.close()
    assert time.monotonic() - before < _START_SECONDS
