"""Plain data laid out as text for a terminal or a pipe. Pure.

Nothing is cut: what does not fit folds between words, and where even words do not fit, a table becomes one fact per
line. Cells are made safe: what clients chose cannot drive the terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from rich.cells import cell_len

from appliance.safe_text import safe_text

CELL_CHARS_MAX: Final = 4096
# A longer word may be broken; ids, serial numbers as they are listed and times are shorter.
WORD_CHARS_MAX: Final = 24
_GAP: Final = 2


def table(columns: Sequence[str], rows: Iterable[Iterable[object]], width: int | None) -> str:
    """Rows under upper-case names; columns in which nobody has anything are left out. width: None for any."""
    cells = [[_cell(value) for value in row] for row in rows]
    kept = [index for index in range(len(columns)) if any(row[index] for row in cells)]
    if not kept:
        return "none"
    names = [columns[index] for index in kept]
    cells = [[row[index] for index in kept] for row in cells]
    widths = _widths([[name.upper() for name in names], *cells], width)
    if widths is None:
        return _records(names, cells)
    lines = [line for row in ([name.upper() for name in names], *cells) for line in _row(row, widths)]
    return "\n".join(lines)


def records(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """One fact per line, an empty line between rows; facts that a row does not have are left out."""
    return _records(columns, [[_cell(value) for value in row] for row in rows]) or "none"


def facts(found: Mapping[str, object], width: int | None) -> str:
    """Nested plain data, one fact per line: a section for each mapping and each list."""
    return "\n".join(_facts(found, width, ""))


def _facts(found: Mapping[str, object], width: int | None, indent: str) -> Iterator[str]:
    longest = max((cell_len(_name(name)) for name in found), default=0)
    for name, value in found.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_name(name)}"
            yield from _facts(value, width, indent + "  ")
        elif isinstance(value, list) and value:
            yield f"{indent}{_name(name)}"
            for one in value:
                yield from _folded(indent + "  - ", _scalar(one), width)
        else:
            yield from _folded(indent + _padded(_name(name), longest + _GAP), _scalar(value) or "-", width)


def _folded(first: str, text: str, width: int | None) -> Iterator[str]:
    """`text` after `first`; further lines begin where it began."""
    room = None if width is None else width - cell_len(first)
    if room is None or room < WORD_CHARS_MAX:
        yield first + text
        return
    for number, line in enumerate(_wrapped(text, room)):
        yield (" " * cell_len(first) if number else first) + line


def _records(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    longest = max(map(cell_len, columns))
    blocks = (
        "\n".join(_padded(name, longest + _GAP) + cell for name, cell in zip(columns, row, strict=True) if cell)
        for row in cells
    )
    return "\n\n".join(blocks)


def _widths(rows: Sequence[Sequence[str]], width: int | None) -> list[int] | None:
    """The width of every column; None where not even the words fit."""
    natural = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    least = [
        max(min(cell_len(word), WORD_CHARS_MAX) for cell in column for word in cell.split() or [""])
        for column in zip(*rows, strict=True)
    ]
    gaps = _GAP * (len(natural) - 1)
    if width is None:
        return natural
    if sum(least) + gaps > width:
        return None
    while sum(natural) + gaps > width:
        # The column with most to give.
        widest = max(range(len(natural)), key=lambda index: (natural[index] > least[index], natural[index]))
        natural[widest] -= 1
    return natural


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    columns = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, columns))):
        line = (column[number] if number < len(column) else "" for column in columns)
        yield "".join(_padded(part, width + _GAP) for part, width in zip(line, widths, strict=True)).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _cell(value: object) -> str:
    return _scalar(value).strip()


def _name(name: str) -> str:
    return safe_text(name.replace("_", " "))


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{_name(name)} {_scalar(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_scalar, value)) or "none"
    return safe_text(f"{value:g}" if isinstance(value, float) else str(value), CELL_CHARS_MAX)


def size(count: int) -> str:
    """Bytes for people, with three digits that say something."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def amount(count: int) -> str:
    """A number of things for people, as model names have it: 7.62 B."""
    return _scaled(count, 1000, ("", "K", "M", "B", "T")).strip()


def _scaled(count: float, base: int, units: Sequence[str]) -> str:
    for unit in units:
        if count < base or unit == units[-1]:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= base
    raise AssertionError("the last unit takes all")
