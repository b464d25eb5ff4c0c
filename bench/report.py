"""The comparison as Markdown: printed, and written into docs/BENCHMARKS.md between two markers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bench.figures import Figures, Spread
from bench.results import Results
from bench.rows import Row

BEGIN: Final = "<!-- bench.compare writes from here -->"
END: Final = "<!-- to here -->"
_NOTHING: Final = "–"


def markdown(results: Results, rows: Sequence[Row]) -> str:
    """What was run, the ratios with their targets, and every contestant's medians."""
    setting = "; ".join(f"{name} {value}" for name, value in results.setting.items())
    ratios = [
        (row.title, ratio.title, f"**{_number(results.ratio(row, ratio), 2)}**", ratio.target or _NOTHING)
        for row in rows
        for ratio in row.ratios
    ]
    figures = [
        (row.title, contestant, *_cells(results.medians(row, contestant))) for row in rows for contestant in row.entries
    ]
    return "\n".join(
        [
            f"{setting}.",
            "",
            *_table(("row", "ratio", "measured", "target"), ratios),
            "",
            *_table(
                (
                    *("row", "contestant", "out tok/s", "TTFT p50 / p95 / p99, s", "inter-token p50 / p95 / p99, ms"),
                    *("cached of prompt tokens", "peak RSS, MiB", "errors"),
                ),
                figures,
            ),
        ]
    )


def write(path: Path, section: str) -> None:
    """Replaces what stands between the markers; everything else in the file stays."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{path} has no markers"
    path.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}")


def _cells(figures: Figures) -> tuple[str, ...]:
    gap = _spread(figures.gap, 1000, 0)
    if figures.gap_before is not None:
        gap = f"before {_spread(figures.gap_before, 1000, 0)}; during {gap}"
    return (
        _number(figures.rate, 1),
        _spread(figures.ttft, 1, 2),
        gap,
        f"{figures.cached_tokens:,} of {figures.prompt_tokens:,}",
        " + ".join(f"{name} {mib:,.0f}" for name, mib in figures.peak_mib.items()),
        f"{figures.errors} of {figures.requests}",
    )


def _spread(spread: Spread, factor: float, digits: int) -> str:
    return " / ".join(_number(value * factor, digits) for value in (spread.p50, spread.p95, spread.p99))


def _number(value: float, digits: int) -> str:
    return _NOTHING if math.isnan(value) else f"{value:,.{digits}f}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]
