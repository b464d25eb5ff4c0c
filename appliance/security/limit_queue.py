"""A place to wait for one's limits: embeddings come by the thousand and are better late than refused.

Who waits is admitted in the order of arrival, principal by principal; principals do not wait for each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from appliance.access_config import PrincipalSettings
from appliance.security.limits import Admission, PrincipalLimits
from appliance.security.principal_usage import LimitRefusal

WAITERS_MAX: Final = 1024
WAITERS_PER_PRINCIPAL_MAX: Final = 256


@dataclass(slots=True)
class _Line:
    """Those of one principal who wait, and why the first of them does."""

    refusal: LimitRefusal
    waiters: deque[asyncio.Event] = field(default_factory=deque)


class LimitQueue:
    """Belongs to one event loop; takes the `released` hook of `limits`. A caller that is cancelled just leaves.

    mono, wall: the clocks that `limits` is asked by.
    """

    def __init__(
        self,
        limits: PrincipalLimits,
        mono: Callable[[], float],
        wall: Callable[[], datetime],
        *,
        waiters_max: int = WAITERS_MAX,
        waiters_per_principal_max: int = WAITERS_PER_PRINCIPAL_MAX,
    ) -> None:
        self._limits = limits
        self._mono = mono
        self._wall = wall
        self._waiters_max = waiters_max
        self._waiters_per_principal_max = waiters_per_principal_max
        self._lines: dict[str, _Line] = {}
        self._waiting = 0
        limits.released = self._wake

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting

    async def admit(
        self, principal: str, settings: PrincipalSettings, estimate_tokens: int, wait_seconds_max: float
    ) -> Admission | LimitRefusal:
        """As PrincipalLimits.admit, but waits for up to `wait_seconds_max`.

        Refuses at once where that cannot be enough, or where too many wait already.
        """
        line = self._lines.get(principal)
        if line is None:
            outcome = self._ask(principal, settings, estimate_tokens)
            if isinstance(outcome, Admission):
                return outcome
            refusal = outcome
        else:
            refusal = (
                self._limits.check(principal, settings, estimate_tokens, self._mono(), self._wall()) or line.refusal
            )
        if _in_vain(refusal, wait_seconds_max) or self._is_full(line):
            return refusal
        if line is None:
            line = self._lines[principal] = _Line(refusal)
        return await self._wait(line, principal, settings, estimate_tokens, wait_seconds_max)

    async def _wait(
        self, line: _Line, principal: str, settings: PrincipalSettings, estimate_tokens: int, wait_seconds_max: float
    ) -> Admission | LimitRefusal:
        turn = asyncio.Event()
        line.waiters.append(turn)
        self._waiting += 1
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds_max
        try:
            while True:
                left = sleep = deadline - loop.time()
                if line.waiters[0] is turn:
                    outcome = self._ask(principal, settings, estimate_tokens)
                    if isinstance(outcome, Admission):
                        return outcome
                    line.refusal = outcome
                    sleep = min(left, outcome.wait_seconds)
                if left <= 0 or _in_vain(line.refusal, left):
                    return line.refusal
                turn.clear()
                await _sleep(turn, sleep)
        finally:
            self._leave(line, principal, turn)

    def _ask(self, principal: str, settings: PrincipalSettings, estimate_tokens: int) -> Admission | LimitRefusal:
        return self._limits.admit(principal, settings, estimate_tokens, self._mono(), self._wall())

    def _is_full(self, line: _Line | None) -> bool:
        here = 0 if line is None else len(line.waiters)
        return self._waiting >= self._waiters_max or here >= self._waiters_per_principal_max

    def _leave(self, line: _Line, principal: str, turn: asyncio.Event) -> None:
        was_first = line.waiters[0] is turn
        line.waiters.remove(turn)
        self._waiting -= 1
        if not line.waiters:
            del self._lines[principal]
        elif was_first:
            line.waiters[0].set()

    def _wake(self, principal: str) -> None:
        """Limits may have room: the first in line looks."""
        line = self._lines.get(principal)
        if line is not None:
            line.waiters[0].set()


def _in_vain(refusal: LimitRefusal, seconds: float) -> bool:
    """Whether waiting for so long cannot help. A running request may end at any time."""
    return refusal.kind != "concurrent" and refusal.wait_seconds > seconds


async def _sleep(turn: asyncio.Event, seconds: float) -> None:
    """Until the event is set or the time is up."""
    try:
        async with asyncio.timeout(seconds):
            await turn.wait()
    except TimeoutError:
        pass
