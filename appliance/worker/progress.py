"""How far a load has come, for the daemon."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from appliance.wire import Loading

_INTERVAL_SECONDS: Final = 0.1


class Progress:
    """Sends Loading frames: rising fractions, not too many."""

    def __init__(self, send: Callable[[Loading], None]) -> None:
        self._send = send
        self._fraction = 0.0
        self._sent = 0.0

    def report(self, fraction: float) -> None:
        """Called from C, where an exception would only be printed: the main thread sees that the daemon has gone."""
        now = time.monotonic()
        if fraction <= self._fraction or now - self._sent < _INTERVAL_SECONDS:
            return
        self._fraction, self._sent = min(fraction, 1.0), now
        with contextlib.suppress(OSError):
            self._send(Loading(fraction=self._fraction))
