"""A place to wait for room at a model, for requests that are better late than refused: embeddings come by the thousand.

Who waits gets in by the order of arrival, principal by principal; principals take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from appliance.errors import ErrorCode, RequestError

WAITERS_MAX: Final = 1024
WAITERS_PER_PRINCIPAL_MAX: Final = 256
# What passes when somebody else's request ends.
_PASSING: Final[frozenset[ErrorCode]] = frozenset({"too_many_requests", "queue_full"})

_Line = deque[asyncio.Event]
_NO_LINES: Final[Mapping[str, _Line]] = MappingProxyType({})


class Turns:
    """Belongs to one event loop. A caller that is cancelled just leaves."""

    def __init__(
        self, waiters_max: int = WAITERS_MAX, waiters_per_principal_max: int = WAITERS_PER_PRINCIPAL_MAX
    ) -> None:
        self._waiters_max = waiters_max
        self._waiters_per_principal_max = waiters_per_principal_max
        self._lines: defaultdict[str, OrderedDict[str, _Line]] = defaultdict(OrderedDict)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting

    async def wait(self, model: str, principal: str, seconds_max: float, ask: Callable[[], None]) -> None:
        """Waits until `ask` raises nothing; the caller then takes its room before it awaits anything.

        Raises what `ask` raised: at once where that does not pass or too many wait already, else after `seconds_max`.
        """
        line = self._lines.get(model, _NO_LINES).get(principal)
        refusal = _late(seconds_max)
        try:
            ask()
            if line is None:
                return
        except RequestError as error:
            refusal = error
        if refusal.code not in _PASSING or self._is_full(line):
            raise refusal
        if line is None:
            line = self._lines[model][principal] = deque()
        turn = asyncio.Event()
        line.append(turn)
        self._waiting += 1
        try:
            await self._wait(line, turn, seconds_max, ask, refusal)
        finally:
            self._leave(model, principal, line, turn)

    async def _wait(
        self,
        line: _Line,
        turn: asyncio.Event,
        seconds_max: float,
        ask: Callable[[], None],
        refusal: RequestError,
    ) -> None:
        until = time.monotonic() + seconds_max
        while True:
            if line[0] is turn:
                try:
                    return ask()
                except RequestError as error:
                    if error.code not in _PASSING:
                        raise
                    refusal = error
            turn.clear()
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await turn.wait()
            except TimeoutError:
                raise refusal from None

    def wake(self, model: str) -> None:
        """A request of this model has ended: there may be room."""
        for line in self._lines.get(model, _NO_LINES).values():
            line[0].set()

    def wake_all(self) -> None:
        """What is asked has changed."""
        for model in self._lines:
            self.wake(model)

    def _is_full(self, line: _Line | None) -> bool:
        here = 0 if line is None else len(line)
        return self._waiting >= self._waiters_max or here >= self._waiters_per_principal_max

    def _leave(self, model: str, principal: str, line: _Line, turn: asyncio.Event) -> None:
        lines = self._lines[model]
        was_first = line[0] is turn
        line.remove(turn)
        self._waiting -= 1
        if not line:
            del lines[principal]
            if not lines:
                del self._lines[model]
        elif was_first:
            lines.move_to_end(principal)
            line[0].set()


def _late(seconds: float) -> RequestError:
    message = f"others of the same client came first and have not been answered in {seconds:.0f} s; send fewer at once"
    return RequestError("too_many_requests", message, retry_after=1)
