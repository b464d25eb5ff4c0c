"""The wall clock, as whoever needs it is given it, and whether it is right."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

# Aware, UTC.
Clock = Callable[[], datetime]

# <linux/timex.h> of a 64-bit kernel: `status` behind `modes` and four longs; the whole is 208 bytes.
_STATUS: Final = struct.Struct("=40xi")
_TIMEX_BYTES: Final = 256
_STA_UNSYNC: Final = 0x0040
# systemd-timesyncd touches it when it has set the clock.
TIMESYNC: Final = Path("/run/systemd/timesync/synchronized")


def utc_now() -> datetime:
    """The clock of the product; tests pass their own."""
    return datetime.now(UTC)


def rfc3339(seconds: float) -> str:
    """A moment, UTC seconds since 1970, to the millisecond: `2026-11-25T18:00:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_synchronized(timesync: Path = TIMESYNC) -> bool | None:
    """Whether something keeps this host's clock right, as the kernel says; None where it does not tell.

    One system call. Where a sandbox forbids it, a file of systemd's can still say yes.
    """
    status = _kernel_status()
    if status is not None:
        return not status & _STA_UNSYNC
    return True if timesync.exists() else None


def _kernel_status() -> int | None:
    """adjtimex(2) that changes nothing: `modes` is 0."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        if ctypes.CDLL(None).adjtimex(timex) < 0:
            return None
    except AttributeError:
        return None
    return int(_STATUS.unpack_from(timex)[0])
