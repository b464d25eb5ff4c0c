"""Quantiles of what has been measured."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """The nearest-rank quantile of an ascending list; None of an empty one."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
