"""Failed authentications of one address are answered ever later: guessing is slowed, nobody is locked out. Pure.

Only the answer to a failure waits. A valid request is never delayed, wherever it comes from, and a principal never:
who could lock a principal out by failing in its name would have a weapon.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Final

from appliance.security.address_rates import AddressRates
from appliance.security.allowlist import Address

FAILURES_PER_SECOND: Final = 1.0
FAILURES_BURST: Final = 10
DELAY_SECONDS_MAX: Final = 2.0
DELAYED_MAX: Final = 256

# One failure beyond the burst is owed: so the second of two parallel ones waits twice as long, and no more pile up.
_DEBT_MAX: Final = 1


@dataclass(frozen=True, slots=True)
class FailureDelay:
    """How to answer one failure: after `seconds`, inside the `with` block of this object."""

    seconds: float
    _owner: FailureDelays

    def __enter__(self) -> FailureDelay:
        if self.seconds > 0:
            self._owner.delayed += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.seconds > 0:
            self._owner.delayed -= 1


class FailureDelays:
    """Counts the failures of each address; `delayed` answers wait now. Belongs to one event loop."""

    def __init__(self, delayed_max: int = DELAYED_MAX) -> None:
        self.delayed = 0
        self._delayed_max = delayed_max
        self._failures = AddressRates(FAILURES_PER_SECOND, FAILURES_BURST, debt_max=_DEBT_MAX)

    def failed(self, address: Address, now: float) -> FailureDelay:
        """An authentication from `address` failed at `now`, in seconds of a monotonic clock.

        Where too many answers wait already, this one does not.

        with delays.failed(address, loop.time()) as delay:
            await asyncio.sleep(delay.seconds)
        """
        seconds = min(self._failures.take(address, now), DELAY_SECONDS_MAX)
        crowded = seconds > 0 and self.delayed >= self._delayed_max
        return FailureDelay(0.0 if crowded else seconds, self)
