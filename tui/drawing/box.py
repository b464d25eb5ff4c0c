"""Boxes, bars and small charts. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui.glyphs import Glyphs
from tui.lines import Line, Role, Span, fitted, line, plain, shorten, width_of


def box(title: Line, body: Sequence[Line], width: int, glyphs: Glyphs, *, right: Line = ()) -> list[Line]:
    """A frame around `body`, `width` cells wide, with a title in its upper edge and `right` at that edge's end."""
    inner = width - 2
    left_corner, edge, right_corner = glyphs.top
    tail: Line = (*right, (edge, "dim")) if right else ()
    room = inner - width_of(tail) - 3
    drawn = title if width_of(title) <= room else line(shorten(plain(title), max(1, room), glyphs.cut))
    head = line((f"{left_corner}{edge} ", "dim"), drawn, " ")
    rule = max(0, width - 1 - width_of(head) - width_of(tail))
    top = (*head, (edge * rule, "dim"), *tail, (right_corner, "dim"))
    side: Span = (glyphs.vertical, "dim")
    low_left, low_edge, low_right = glyphs.bottom
    middle = [(side, *fitted(one, inner), side) for one in body]
    return [top, *middle, ((low_left + low_edge * inner + low_right, "dim"),)]


def bar(parts: Sequence[tuple[float | None, str, Role]], width: int, glyphs: Glyphs) -> Line:
    """Shares of a whole, 0 to 1, side by side in `width` cells; what is over is free.

    A part that there is at all takes one cell at least. width: without the two ends.
    """
    left = width
    spans: list[Span] = [(glyphs.bar_open, "dim")]
    for part, glyph, role in parts:
        if not part or part < 0:
            continue
        length = min(left, max(1, round(part * width)))
        left -= length
        spans.append((glyph * length, role))
    spans.append((glyphs.free * left, "free"))
    spans.append((glyphs.bar_close, "dim"))
    return tuple(span for span in spans if span[0])


def level(part: float | None, width: int, glyphs: Glyphs) -> Line:
    """One share in a bar, coloured by how much it is."""
    return bar([(part, glyphs.full, heat(part))], width, glyphs)


def heat(part: float | None) -> Role:
    """How near to full something is: from 85 % it is worth a look, from 95 % an alarm."""
    return "" if part is None else "bad" if part >= 0.95 else "warn" if part >= 0.85 else "good"


def sparkline(values: Sequence[float | None], width: int, glyphs: Glyphs) -> str:
    """The course of something in `width` cells, each the mean of its share of the values; a gap where there is none.

    From the least to the most of them, by ratio; flat where nothing changes by more than a tenth.
    """
    cells = _means(values, width)
    known = [value for value in cells if value is not None]
    if not known:
        return " " * width
    low, high = min(known), max(known)
    ramp = glyphs.ramp
    if high - low <= 0.1 * high:
        flat = ramp[len(ramp) // 2 - 1]
        return "".join(" " if value is None else flat for value in cells)
    # Nothing at all has no ratio: a thousandth of the most is the least that is told apart.
    floor = max(low, high / 1000)
    span, top = math.log(high / floor), len(ramp) - 1
    return "".join(
        " " if value is None else ramp[round(math.log(max(value, floor) / floor) / span * top)] for value in cells
    )


def _means(values: Sequence[float | None], width: int) -> list[float | None]:
    if len(values) <= width:
        return [None] * (width - len(values)) + list(values)
    means: list[float | None] = []
    for cell in range(width):
        part = [v for v in values[cell * len(values) // width : (cell + 1) * len(values) // width] if v is not None]
        means.append(sum(part) / len(part) if part else None)
    return means
