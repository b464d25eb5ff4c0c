"""How long a model stays loaded that nobody uses."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """It does not fire any more."""
        ...


class Stay:
    """One model's, from load to load. Belongs to the event loop.

    expired: called when its time has come, and again whenever it comes anew after a use. clock: in seconds.
    used_at: when it was used last, or loaded, on `clock`.
    """

    def __init__(
        self,
        expired: Callable[[], None],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
    ) -> None:
        self.used_at = clock()
        self._expired = expired
        self._clock = clock
        self._call_later = call_later
        self._until = 0.0
        self._timer: Timer | None = None

    @property
    def idle_seconds(self) -> float:
        """Since it was used last."""
        return self._clock() - self.used_at

    @property
    def seconds_left(self) -> float | None:
        """Until it expires; None while nothing lets it."""
        return None if self._timer is None else max(0.0, self._until - self._clock())

    def begin_anew(self) -> None:
        """Earlier wishes count no more."""
        self._until = 0.0

    def use(self, seconds: float | None) -> None:
        """It is in use, and shall stay so long after it, None: for good. The longest wish counts. Ends the wait."""
        self.used_at = self._clock()
        self._until = max(self._until, self.used_at + (math.inf if seconds is None else seconds))
        self.hold()

    def hold(self) -> None:
        """It does not expire until `let_expire`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def let_expire(self) -> None:
        """Nobody uses it: its time runs. Does nothing where it runs already, or has no end."""
        if self._timer is None and not math.isinf(self._until):
            call_later = self._call_later or asyncio.get_running_loop().call_later
            self._timer = call_later(max(0.0, self._until - self._clock()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._expired()
