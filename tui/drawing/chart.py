"""The course of a latency over an hour, on a logarithmic scale. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui import units
from tui.board import Point
from tui.drawing.box import box
from tui.lines import Line, line
from tui.look import Look


def chart_box(
    trend: Sequence[Point], now: float, width: int, height: int, look: Look, seconds: float = 3600.0
) -> list[Line]:
    """TTFT's 95th percentile, and when models came and went. height: with the frame."""
    glyphs = look.glyphs
    inner, rows = width - 2, height - 3
    plot = inner - 5
    values = _columns(trend, now, plot, seconds)
    known = [value for value in values if value is not None and value > 0]
    low, high = _decades(known)
    grid = [[" "] * plot for _ in range(rows)]
    for x, value in enumerate(values):
        if value is None or value <= 0:
            continue
        part = (math.log10(value) - low) / (high - low)
        grid[rows - 1 - min(rows - 1, max(0, round(part * (rows - 1))))][x] = glyphs.point
    lines: list[Line] = []
    for y, row in enumerate(grid):
        power = low + (high - low) * (rows - 1 - y) / max(1, rows - 1)
        label = f"{10.0**power:g}" if abs(power - round(power)) < 0.01 else ""
        lines.append(line((f"{label:>3} {glyphs.vertical}", "dim"), ("".join(row), "accent")))
    lines.append(line((f"    {_axis(trend, now, plot, seconds, look)}", "dim")))
    title = f"{look.say('TTFT p95 (s), 1 h, log scale')}"
    right = line((f"{glyphs.mark} = {look.say('load/unload')} {glyphs.rule}", "dim"))
    return box(line(title), lines, width, glyphs, right=right)


def _columns(trend: Sequence[Point], now: float, plot: int, seconds: float) -> list[float | None]:
    """The largest value of each column's time; one that no snapshot fell into has that of the one before."""
    columns: list[float | None] = [None] * plot
    for point in trend:
        x = int((1 - (now - point.time) / seconds) * (plot - 1))
        if 0 <= x < plot and point.ttft is not None:
            columns[x] = max(columns[x] or 0.0, point.ttft)
    if len(trend) < 2:
        return columns
    step = max(1, round((trend[-1].time - trend[0].time) / len(trend) / seconds * plot) + 1)
    last, age = None, 0
    for x, value in enumerate(columns):
        last, age = (value, 0) if value is not None else (last, age + 1)
        columns[x] = last if age <= step else None
    return columns


def _decades(known: Sequence[float]) -> tuple[int, int]:
    if not known:
        return -1, 1
    low = math.floor(math.log10(min(known)))
    return low, max(math.ceil(math.log10(max(known))), low + 1)


def _axis(trend: Sequence[Point], now: float, plot: int, seconds: float, look: Look) -> str:
    glyphs = look.glyphs
    cells = list("+" + glyphs.rule * plot) if glyphs.ascii else list(glyphs.bottom[0] + glyphs.rule * plot)
    first = now - seconds
    ten_minutes = first - first % 600 + 600
    while ten_minutes < now:
        x = 1 + int((ten_minutes - first) / seconds * (plot - 1))
        said = units.minute(ten_minutes, look.zone)
        if x + len(said) < plot:
            cells[x : x + len(said)] = said
        ten_minutes += 600
    for before, after in zip(trend, list(trend)[1:], strict=False):
        if before.ready != after.ready:
            x = 1 + int((1 - (now - after.time) / seconds) * (plot - 1))
            # Beside the times, which must stay legible.
            free = next((at for at in range(max(1, x), plot + 1) if cells[at] == glyphs.rule), None)
            if free is not None:
                cells[free] = glyphs.mark
    return "".join(cells)
