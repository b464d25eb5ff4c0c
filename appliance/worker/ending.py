"""The end of a worker process."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def end_with(work: Callable[[], None]) -> NoReturn:
    """Runs a thread's work and ends the process with it: no thread is of use without the others."""
    status = 0
    try:
        work()
    except OSError:
        pass  # the daemon has gone
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    # Not sys.exit: another thread may be deep in C, and libraries' destructors may wait for it.
    os._exit(status)
