"""What the terminal can show, found out before anything is drawn, and what follows from it.

`plan` decides, from facts; `facts` and `glyph_cells` look. The dashboard draws to stderr, as Textual does.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tui.glyphs import ASCII, PROBED, UTF8, Glyphs
from tui.theme import ThemeName

# Consoles without a mouse, without glyphs for Chinese, and with the sixteen colours.
_BARE_TERMS: Final = ("linux", "vt100", "vt102", "vt220", "ansi", "cons25")
_DUMB_TERMS: Final = ("", "dumb", "unknown")
_PROBE_SECONDS: Final = 0.3
_REPORT: Final = re.compile(rb"\x1b\[(\d+);(\d+)R")


@dataclass(frozen=True, slots=True)
class Facts:
    """encoding: of stderr. glyph_cells: how wide the terminal draws our glyphs; None where it did not say."""

    keyboard: bool
    screen: bool
    term: str
    encoding: str
    no_color: bool
    glyph_cells: int | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asked for; None leaves it to the terminal."""

    ascii: bool = False
    theme: ThemeName | None = None
    mouse: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """kind: `screen` the dashboard, `once` a text, because there is no screen to draw on. why: for the operator."""

    kind: Literal["screen", "once"]
    glyphs: Glyphs
    theme: ThemeName
    mouse: bool
    why: str = ""


def plan(found: Facts, wishes: Wishes) -> Plan:
    """How the dashboard is to be shown in such a terminal. Pure."""
    bare = found.term in _BARE_TERMS or found.term.startswith("vt")
    narrow = found.glyph_cells in (None, 1)
    glyphs = UTF8 if _is_utf8(found.encoding) and narrow and not bare and not wishes.ascii else ASCII
    theme: ThemeName = wishes.theme or ("ansi" if bare or found.no_color else "dark")
    why = ""
    if not found.keyboard:
        why = "stdin is no terminal"
    elif not found.screen:
        why = "stderr, which the dashboard draws on, is no terminal"
    elif found.term in _DUMB_TERMS:
        why = f"TERM={found.term or '(unset)'} can only show text"
    return Plan("once" if why else "screen", glyphs, theme, wishes.mouse and not bare, why)


def look_around(environ: Mapping[str, str], *, ask: bool) -> Facts:
    """The facts of this process's terminal. ask: how wide it draws our glyphs, where it can answer."""
    keyboard, screen = _is_tty(0), _is_tty(2)
    term = environ.get("TERM", "")
    encoding = getattr(sys.__stderr__, "encoding", None) or "ascii"
    cells = None
    if ask and keyboard and screen and term not in (*_DUMB_TERMS, *_BARE_TERMS) and _is_utf8(encoding):
        cells = glyph_cells(0, 2)
    return Facts(keyboard, screen, term, encoding, bool(environ.get("NO_COLOR")), cells)


def glyph_cells(keyboard: int, screen: int) -> int | None:
    """How many cells the terminal takes for one of our glyphs: the most of any; None where it does not answer.

    The glyphs are of ambiguous width: terminals set up for East Asian text may draw them in two cells. Each is printed
    at the beginning of the line, and the terminal is asked where its cursor is.
    """
    try:
        before = termios.tcgetattr(keyboard)
    except termios.error:
        return None
    widest = None
    try:
        tty.setcbreak(keyboard, termios.TCSAFLUSH)
        for glyph in PROBED:
            os.write(screen, f"\r{glyph}\x1b[6n".encode())
            column = _reported_column(keyboard)
            if column is None:
                break
            widest = max(widest or 0, column - 1)
    except OSError:
        return None
    finally:
        os.write(screen, b"\r\x1b[K")
        termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)
    return widest


def _reported_column(keyboard: int) -> int | None:
    answer = b""
    until = time.monotonic() + _PROBE_SECONDS
    while (left := until - time.monotonic()) > 0 and select.select([keyboard], [], [], left)[0]:
        answer += os.read(keyboard, 64)
        if (found := _REPORT.search(answer)) is not None:
            return int(found[2])
    return None


def _is_utf8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def _is_tty(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
