"""Text on a grid of cells: lines of styled spans, cut and padded by what a terminal shows. Pure.

A span is its text and a role, as `theme` knows it. Widths are cells: a Chinese character takes two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from rich.cells import cell_len, set_cell_size

Role = Literal[
    "",
    "title",
    "dim",
    "good",
    "warn",
    "bad",
    "accent",
    "replay",
    "cursor",
    "tab",
    "head",
    "weights",
    "kv",
    "other",
    "free",
]
Span = tuple[str, Role]
Line = tuple[Span, ...]
Align = Literal["left", "right"]

EMPTY: Final[Line] = ()
# What stays together: a word with the spaces around it, or a character of a script that is written without spaces, with
# the punctuation that must not begin a line.
_WIDE: Final = (
    r"\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6"
)
_PIECE: Final = re.compile(rf"\s*(?:[{_WIDE}][，。；：！？、）]*|[^\s{_WIDE}]+)\s*")


def line(*parts: str | Span | Line) -> Line:
    """A line of plain texts, spans and other lines."""
    spans: list[Span] = []
    for part in parts:
        if isinstance(part, str):
            spans.append((part, ""))
        elif part and isinstance(part[0], str):
            spans.append(part)
        else:
            spans.extend(part)
    return tuple(span for span in spans if span[0])


def cells(text: str) -> int:
    """How many cells a terminal takes for it."""
    return len(text) if text.isascii() else cell_len(text)


def width_of(drawn: Line) -> int:
    """Of a line, in cells."""
    return sum(cells(text) for text, _ in drawn)


def plain(drawn: Line) -> str:
    """A line without its styles."""
    return "".join(text for text, _ in drawn)


def fit(text: str, width: int, align: Align = "left") -> str:
    """`text` in exactly `width` cells; what is too long loses its end."""
    have = cells(text)
    if have > width:
        return text[:width] if text.isascii() else set_cell_size(text, width)
    return text + " " * (width - have) if align == "left" else " " * (width - have) + text


def shorten(text: str, width: int, mark: str) -> str:
    """`text` in at most `width` cells; `mark` (one cell) stands for an end that was cut."""
    if cells(text) <= width or width < 1:
        return text[: max(0, width)] if width < 1 else text
    return fit(text, width - 1).rstrip() + mark


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """`text` in as many lines as it takes, at least one; broken at spaces, and between characters of two cells.

    indent: before every line but the first; it is within `width`. What has no place to break is cut where it must be.
    """
    assert width > len(indent) + 1, "there is no room for a character"
    lines: list[str] = []
    now = ""
    for piece in _PIECE.findall(text):
        if cells(now) + cells(piece.rstrip()) <= width:
            now += piece
            continue
        if now.strip():
            lines.append(now.rstrip())
            now = indent
        # A word that no line has room for.
        while cells(now) + cells(piece.rstrip()) > width:
            part = _beginning(piece, width - cells(now))
            lines.append(now + part)
            piece, now = piece[len(part) :], indent
        now += piece
    if now.strip() or not lines:
        lines.append(now.rstrip())
    return lines


def _beginning(text: str, width: int) -> str:
    """As much of it as `width` cells have room for."""
    count, left = 0, width
    for char in text:
        left -= cells(char)
        if left < 0:
            break
        count += 1
    return text[:count]


def fitted(drawn: Line, width: int) -> Line:
    """A line in exactly `width` cells."""
    spans: list[Span] = []
    left = width
    for text, role in drawn:
        if left <= 0:
            break
        have = cells(text)
        if have > left:
            text, have = fit(text, left), left
        spans.append((text, role))
        left -= have
    if left > 0:
        spans.append((" " * left, ""))
    return tuple(spans)


def apart(left: Line, right: Line, width: int) -> Line:
    """`left` at the left end and `right` at the right end of `width` cells; `right` is kept whole."""
    room = max(0, width - width_of(right))
    return fitted((*fitted(left, room), *right), width)


def beside(left: Sequence[Line], right: Sequence[Line]) -> list[Line]:
    """Two blocks of as many lines each, one beside the other."""
    return [(*one, *other) for one, other in zip(left, right, strict=True)]


def stretched(block: Sequence[Line], height: int) -> list[Line]:
    """A block of exactly `height` lines."""
    return [*block[:height], *([EMPTY] * (height - len(block)))]


def styled(drawn: Line, role: Role) -> Line:
    """The whole line in one role."""
    return tuple((text, role) for text, _ in drawn)


def ascii_only(text: str) -> str:
    """`text` with a question mark for each cell of a character that is not ASCII."""
    if text.isascii():
        return text
    return "".join(char if char.isascii() else "?" * cell_len(char) for char in text)


def texts(block: Iterable[Line]) -> list[str]:
    """Lines without styles and trailing spaces."""
    return [plain(one).rstrip() for one in block]
