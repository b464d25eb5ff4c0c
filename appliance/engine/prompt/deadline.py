"""A time limit for code that cannot be trusted to end."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

GROWTH_BYTES_MAX: Final = 2**30
_INTERVAL_SECONDS: Final = 0.02
# An overdue block is interrupted again after this many ticks, should it have survived; not while it unwinds.
_TICKS_BETWEEN: Final = 25
_PAGE_BYTES: Final = resource.getpagesize()


class DeadlineError(BaseException):
    """The time or memory limit is reached. A BaseException: the code under limit must not catch it."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises DeadlineError inside the block once it has run for `seconds` or the process has grown by 1 GiB.

    Main thread only. It acts between two Python instructions: the block must not call C code that runs long.
    """
    ticks_left = max(1, round(seconds / _INTERVAL_SECONDS))
    resident_max = _resident_bytes() + GROWTH_BYTES_MAX

    over = False

    def tick(_signal: int, _frame: FrameType | None) -> None:
        nonlocal ticks_left
        if over:
            return
        ticks_left -= 1
        if ticks_left <= 0 and ticks_left % _TICKS_BETWEEN == 0:
            raise DeadlineError(f"it ran for more than {seconds:g} s")
        if ticks_left > 0 and _resident_bytes() > resident_max:
            ticks_left = 0
            raise DeadlineError(f"it took more than {GROWTH_BYTES_MAX // 2**20} MiB of memory")

    previous = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, _INTERVAL_SECONDS, _INTERVAL_SECONDS)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _resident_bytes() -> int:
    """Memory of our own: a cold model's pages that come in meanwhile are the file's."""
    resident, shared = Path("/proc/self/statm").read_bytes().split()[1:3]
    return (int(resident) - int(shared)) * _PAGE_BYTES
