"""Writes a model with smaller weights, in a process that is thrown away afterwards and stands back for the others."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Callable
from typing import Final

from appliance.errors import LoadError
from appliance.types import QuantizeOrder
from appliance.wire import Quantize, Quantized, QuantizeFailed, Quantizing
from appliance.worker.watchdog import ends_after

NICENESS: Final = 10
LOOK_SECONDS: Final = 0.5


def quantize_model(
    job: Quantize, quantize: Callable[[QuantizeOrder], None], send: Callable[[Quantizing], None]
) -> Quantized | QuantizeFailed:
    """The process ends where nothing is written for `job.stall_seconds_max`; it can write no larger file afterwards."""
    os.nice(NICENESS)
    limit = job.order.bytes_max
    # A larger write fails with EFBIG: Python ignores the signal that would come with it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(job, send, done), name="quantize watch", daemon=True)
    watch.start()
    try:
        quantize(job.order)
    except LoadError as error:
        return QuantizeFailed(reason=str(error))
    finally:
        done.set()
        watch.join()
    return Quantized()


def _watch(job: Quantize, send: Callable[[Quantizing], None], done: threading.Event) -> None:
    """Tells how much is written, and keeps what was read and written out of the page cache."""
    source, target = os.open(job.order.source, os.O_RDONLY), os.open(job.order.target, os.O_RDONLY)
    written, over = 0, False
    try:
        while not over:
            with ends_after(job.stall_seconds_max):
                while not (over := done.wait(LOOK_SECONDS)) and os.fstat(target).st_size <= written:
                    pass
            written = os.fstat(target).st_size
            # Pages that a process has mapped stay, so a model that is being served loses nothing.
            os.posix_fadvise(source, 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)
            # The main thread sees that the daemon has gone.
            with contextlib.suppress(OSError):
                send(Quantizing(bytes_written=written))
    finally:
        os.close(source)
        os.close(target)
