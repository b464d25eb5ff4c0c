"""Ends a worker that is stuck, whatever holds it: faulthandler's timer thread needs neither the GIL nor our code.

It writes every thread's stack to stderr and exits with status 1. It is armed around work only: armed while idle it
would end a healthy worker. A daemon that reads nothing for a whole deadline counts as stuck too.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

# Arming costs 25 µs, so steps share a deadline for this long; each gets that much more than its limit.
_REARM_SECONDS: Final = 1.0


@contextmanager
def ends_after(seconds: float) -> Iterator[None]:
    """Ends the process when the block takes longer."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class StepWatchdog:
    """Ends the process when one step takes longer than step_seconds_max for every n_ubatch tokens of it.

    Belongs to the engine thread. The timer is one per process.
    """

    def __init__(self, step_seconds_max: float, n_ubatch: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._step_seconds_max = step_seconds_max
        self._n_ubatch = n_ubatch
        self._clock = clock
        self._armed_at = 0.0
        self._deadline: float | None = None

    def step(self, tokens: int) -> None:
        """A step of that many tokens begins."""
        now = self._clock()
        seconds = self._step_seconds_max * max(1.0, tokens / self._n_ubatch)
        if self._deadline is None or now + seconds > self._deadline or now - self._armed_at >= _REARM_SECONDS:
            faulthandler.dump_traceback_later(seconds + _REARM_SECONDS, exit=True)
            self._armed_at, self._deadline = now, now + seconds + _REARM_SECONDS

    def rest(self) -> None:
        """No step follows until the next `step`."""
        faulthandler.cancel_dump_traceback_later()
        self._deadline = None
