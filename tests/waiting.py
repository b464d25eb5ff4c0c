"""Waiting for what happens instead of for a time: a slow machine makes a test slow, it does not make it fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# What is waited for is usually there within milliseconds; this only ends a test whose event never comes.
WAIT_SECONDS_MAX = 60.0


async def until(holds: Callable[[], object]) -> None:
    """Returns as soon as it holds, with the loop free meanwhile; fails where it never does."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, f"did not happen within {WAIT_SECONDS_MAX:.0f} s"
        await asyncio.sleep(0.005)


def eventually(holds: Callable[[], object]) -> None:
    """The same for what another thread or process does."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, f"did not happen within {WAIT_SECONDS_MAX:.0f} s"
        time.sleep(0.005)
