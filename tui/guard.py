"""Ends the dashboard properly when it is told to, or when its terminal is gone.

A process whose terminal is gone while SIGHUP is ignored, as under nohup, would go on drawing for ever; and one that
SIGTERM ends at once would leave the terminal without a cursor, on the wrong screen.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

LOOK_SECONDS: Final = 1.0


def hear_signals(leave: Callable[[], object]) -> None:
    """SIGTERM and SIGHUP end it as `q` does. Of the running event loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave)


def terminal_is_gone(keyboard: int = 0) -> bool:
    """Whether there is nobody at the other end any more."""
    try:
        os.tcgetpgrp(keyboard)
    except OSError:
        return True
    return False
