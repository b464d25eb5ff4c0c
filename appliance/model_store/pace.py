"""Reading files for our own sake must not be felt by anybody."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Sleeps, in the thread that reads, so that no more than so many bytes a second are read."""

    def __init__(self, bytes_per_second: float, then: Callable[[int], None]) -> None:
        """then: told of the same bytes first; it may raise to end the work."""
        self._bytes_per_second = bytes_per_second
        self._then = then
        self._due = time.monotonic()

    def __call__(self, count: int) -> None:
        self._then(count)
        self._due = max(self._due, time.monotonic() - 1) + count / self._bytes_per_second
        time.sleep(max(0.0, self._due - time.monotonic()))
