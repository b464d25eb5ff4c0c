"""Times calls at the seams of the engine, step by step."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Laps:
    """One step. spans: by part, when each of its calls began and ended, in seconds of the performance counter."""

    began: float
    result: object
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def total(self, part: str) -> float:
        """Seconds inside the part's calls."""
        return sum(ended - began for began, ended in self.spans[part])


class Stopwatch:
    """Collects `laps`: a step lasts from one call of the opening function to the next. One thread at a time."""

    def __init__(self) -> None:
        self.laps: list[Laps] = []

    def open_with(self, owner: object, name: str) -> None:
        """From now on each call of `owner.name` begins a step; its `result` is what that call returned."""
        inner: Callable[..., Any] = getattr(owner, name)

        def opening(*arguments: Any) -> Any:
            laps = Laps(time.perf_counter(), None)
            self.laps.append(laps)
            laps.result = inner(*arguments)
            laps.spans[name].append((laps.began, time.perf_counter()))
            return laps.result

        setattr(owner, name, opening)

    def around(self, owner: object, name: str, part: str) -> None:
        """From now on calls of `owner.name` count for the part, in the step that is open."""
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = inner(*arguments)
            if self.laps:
                self.laps[-1].spans[part].append((began, time.perf_counter()))
            return result

        setattr(owner, name, timed)
