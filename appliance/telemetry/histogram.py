"""A histogram by model in Prometheus' text format. prometheus_client's own takes very much longer to write."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from appliance.telemetry.exposition import head, prefix


class _Counts:
    """Of one model. buckets: the last one is of what is larger than all bounds.

    lines: all of them, with `%s` for each value: one operation writes them.
    """

    __slots__ = ("buckets", "lines", "sum")

    def __init__(self, lines: str, buckets: int) -> None:
        self.buckets = [0] * buckets
        self.lines = lines
        self.sum = 0.0

    def text(self) -> str:
        # A copy: the loop may count on while a thread writes.
        sums = tuple(accumulate(tuple(self.buckets)))
        return self.lines % (*sums, sums[-1], self.sum)


class Histogram:
    """Belongs to the event loop; `text` may be asked for from any thread. bounds: ascending, each within its bucket.

    models: how many names it takes is its caller's business.
    """

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._head = head(name, text, "histogram")
        self._bounds = tuple(map(float, bounds))
        self._models: dict[str, _Counts] = {}

    def observe(self, model: str, value: float, times: int = 1) -> None:
        """`value` was measured so often. Costs a microsecond."""
        counts = self._models.get(model)
        if counts is None:
            counts = self._models[model] = _Counts(self._lines(model), len(self._bounds) + 1)
        counts.buckets[bisect_left(self._bounds, value)] += times
        counts.sum += value * times

    def text(self) -> str:
        """The family with all its series."""
        return self._head + "".join(counts.text() for counts in tuple(self._models.values()))

    def _lines(self, model: str) -> str:
        bounds = (*map(str, self._bounds), "+Inf")
        places = [(f"{self._name}_bucket", {"model_name": model, "le": bound}) for bound in bounds]
        places += [(f"{self._name}_{end}", {"model_name": model}) for end in ("count", "sum")]
        return "".join(prefix(*place).replace("%", "%%") + "%s\n" for place in places)
