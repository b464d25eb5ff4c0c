"""All that one run of the comparison has measured, and its medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.figures import Figures, Spread
from bench.rows import Ratio, Row


class Result(Struct, frozen=True, kw_only=True):
    """One contestant's figures in one turn of a row; `turn` counts over all repeats."""

    row: str
    contestant: str
    turn: int
    figures: Figures


class Results(Struct, frozen=True, kw_only=True):
    """setting: what was run where, by name."""

    setting: dict[str, str]
    results: list[Result]

    def save(self, path: Path) -> None:
        """Writes them as JSON, NaN as null."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    def ratio(self, row: Row, ratio: Ratio) -> float:
        """The median of the turns' ratios; contestants are only compared within a turn."""
        turns: dict[int, dict[str, Figures]] = {}
        for result in self.results:
            if result.row == row.name:
                turns.setdefault(result.turn, {})[result.contestant] = result.figures
        return _median(_safely(ratio, table) for table in turns.values() if table.keys() == row.entries.keys())

    def medians(self, row: Row, contestant: str) -> Figures:
        """Each figure's median over the turns; errors are summed up and peaks are the highest."""
        figures = [each.figures for each in self.results if (each.row, each.contestant) == (row.name, contestant)]
        return Figures(
            rate=_median(each.rate for each in figures),
            ttft=_spread(each.ttft for each in figures),
            gap=_spread(each.gap for each in figures),
            gap_before=_spread(each.gap_before for each in figures if each.gap_before is not None)
            if figures[0].gap_before is not None
            else None,
            requests=sum(each.requests for each in figures),
            errors=sum(each.errors for each in figures),
            prompt_tokens=figures[0].prompt_tokens,
            cached_tokens=round(_median(each.cached_tokens for each in figures)),
            output_tokens=figures[0].output_tokens,
            peak_mib={name: max(each.peak_mib[name] for each in figures) for name in figures[0].peak_mib},
        )


def _safely(ratio: Ratio, table: dict[str, Figures]) -> float:
    """NaN where a contestant answered nothing."""
    try:
        return ratio.of(table)
    except ZeroDivisionError:
        return math.nan


def _spread(spreads: Iterable[Spread]) -> Spread:
    p50, p95, p99 = zip(*((each.p50, each.p95, each.p99) for each in spreads), strict=True)
    return Spread(_median(p50), _median(p95), _median(p99))


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan
