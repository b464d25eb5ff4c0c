"""Keeping what a process holds in memory from other processes and from disks. Linux only; elsewhere it does nothing."""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4

_log = logging.getLogger(__name__)


def keep_memory_private() -> None:
    """No core dump, and no debugger of another process of this user. Children that run another program are not bound.

    Call it before there are threads.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        _log.warning("memory may be read by other processes of this user: prctl: errno %d", ctypes.get_errno())
