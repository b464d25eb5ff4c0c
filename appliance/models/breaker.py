"""A circuit breaker: a model that keeps failing gets no requests until a probe has been answered. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from appliance.errors import ErrorCode, RequestError

# Failures that speak against the model. A load that fails, or a restart that is due, refuses by itself.
COUNTED: Final[frozenset[ErrorCode]] = frozenset({"engine_crash", "deadline_exceeded", "internal_error"})
# Open for longer after every probe that fails, up to this.
SECONDS_MAX: Final = 300.0


class Breaker:
    """Of one model. Closed until `failures_max` requests in a row have failed; 0 keeps it closed.

    Open for `seconds`, then half-open: a probe decides, no request. clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float], failures_max: int = 5, seconds: float = 30.0) -> None:
        self.failures_max = failures_max
        self.seconds = seconds
        self._clock = clock
        self._failures = 0
        self._failed_at = -math.inf
        self._pauses = 0
        self._until: float | None = None

    @property
    def open(self) -> bool:
        """Whether requests are refused; half-open counts as open."""
        return self._until is not None

    def pause_seconds(self) -> float:
        """Until the next probe is due; 0 where one is due, or none is needed."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def failed(self, code: ErrorCode, began: float) -> bool:
        """A request that began then has failed. Returns whether that opens it.

        One crash ends many requests: those that were there at the last one count only where they waited in vain.
        """
        if code not in COUNTED or (code != "deadline_exceeded" and began < self._failed_at):
            return False
        self._failures += 1
        self._failed_at = self._clock()
        if self.open or not 0 < self.failures_max <= self._failures:
            return False
        self._open()
        return True

    def succeeded(self) -> bool:
        """A request or a probe has been answered. Returns whether that closes it."""
        closes = self.open
        self._failures = self._pauses = 0
        self._until = None
        return closes

    def probe_failed(self) -> None:
        """It stays open, for twice as long as before."""
        self._pauses += 1
        self._open()

    def refusal(self, model: str) -> RequestError:
        """What a request for it is told while it is open."""
        return RequestError(
            "model_unavailable",
            f"model {model!r} has failed {self._failures} times in a row and is being tested; try again later",
            retry_after=max(1, math.ceil(self.pause_seconds())),
        )

    def _open(self) -> None:
        self._until = self._clock() + min(self.seconds * 2**self._pauses, SECONDS_MAX)
