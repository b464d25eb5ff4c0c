"""A histogram by model in Prometheus' text format. prometheus_client's own takes ten times as long to write.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate


class _Counts:
    """Of one model. buckets: the last one is of what is larger than all bounds. lines: all of a line but its value."""

    __slots__ = ("buckets", "lines", "sum")

    def __init__(self, lines: list[str]) -> None:
        self.buckets = [0] * (len(lines) - 2)
        self.lines = lines
        self.sum = 0.0


class Histogram:
    """Belongs to the event loop; `text` may be asked for from any thread. bounds: ascending, each within its bucket.

    models: how many names it takes is its caller's business.
    """

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._head = f"# HELP {name} {text}\n# TYPE {name} histogram\n"
        self._bounds = tuple(map(float, bounds))
        self._models: dict[str, _Counts] = {}

    def observe(self, model: str, value: float, times: int = 1) -> None:
        """`value` was measured so often. Costs a microsecond."""
        counts = self._models.get(model)
        if counts is None:
            counts = self._models[model] = _Counts(self._lines(model))
        counts.buckets[bisect_left(self._bounds, value)] += times
        counts.sum += value * times

    def text(self) -> str:
        """The family with all its series."""
        return self._head + "".join(line for counts in tuple(self._models.values()) for line in _written(counts))

    def _lines(self, model: str) -> list[str]:
        label = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        bounds = (*map(str, self._bounds), "+Inf")
        buckets = [f'{self._name}_bucket{{model_name="{label}",le="{bound}"}} ' for bound in bounds]
        return [*buckets, f'{self._name}_count{{model_name="{label}"}} ', f'{self._name}_sum{{model_name="{label}"}} ']


def _written(counts: _Counts) -> Iterator[str]:
    # A copy: the loop may count on while a thread writes.
    sums = list(accumulate(tuple(counts.buckets)))
    for line, value in zip(counts.lines, (*sums, sums[-1], counts.sum), strict=True):
        yield f"{line}{value}\n"
