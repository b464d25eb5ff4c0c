"""Prometheus' text format, written by what has not changed since the last scrape: all of a line but its value.

prometheus_client's own writer looks at each name and label of each line again, and takes three times as long.
Format: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client.core import Metric

# Of the figures of a snapshot. Beyond it they are written each time, which is slower and nothing else.
_PREFIXES_MAX: Final = 20_000


def head(name: str, text: str, kind: str) -> str:
    """What is above the lines of a family. text: of ours, so nothing in it has to be escaped."""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def prefix(name: str, labels: Mapping[str, str]) -> str:
    """A line but its value."""
    if not labels:
        return f"{name} "
    written = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
    return f"{name}{{{written}}} "


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number(value: float) -> str:
    """A value, as Go reads it."""
    return str(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


class FamilyWriter:
    """Writes families that are made anew for each scrape. For one thread at a time."""

    def __init__(self) -> None:
        self._prefixes: dict[tuple[str, tuple[str, ...]], str] = {}

    def text(self, families: Iterable[Metric]) -> str:
        """All of them."""
        return "".join(self._family(family) for family in families)

    def _family(self, family: Metric) -> str:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines = [head(name, family.documentation, family.type)]
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.values()))
            known = self._prefixes.get(key)
            if known is None:
                known = prefix(sample.name, sample.labels)
                if len(self._prefixes) < _PREFIXES_MAX:
                    self._prefixes[key] = known
            # Some are bool.
            lines.append(f"{known}{number(float(sample.value))}\n")
        return "".join(lines)


class Counter:
    """A counter by some labels. Belongs to the event loop; `text` may be asked for from any thread.

    How many values its labels take is its caller's business.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name = f"{name}_total"
        self._labels = labels
        self._head = head(self._name, text, "counter")
        self._values: dict[tuple[str, ...], float] = {}
        self._prefixes: dict[tuple[str, ...], str] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Counts. labels: in their order. Costs less than a microsecond."""
        if labels not in self._values:
            # First, so that whoever writes finds one for each value.
            self._prefixes[labels] = prefix(self._name, dict(zip(self._labels, labels, strict=True)))
        self._values[labels] = self._values.get(labels, 0) + amount

    def text(self) -> str:
        """The family with all its series."""
        # A copy: the loop may count on while a thread writes.
        values = self._values.copy()
        return self._head + "".join(f"{self._prefixes[labels]}{number(value)}\n" for labels, value in values.items())
