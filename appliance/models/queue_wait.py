"""How long a new request will wait for its turn, about: so that it is refused at once where that is too long. Pure."""

from __future__ import annotations

from typing import Final

# The weight of the newest request in the mean.
_NEWEST: Final = 0.1


class ServiceTime:
    """The mean time that a request of one model has its slot, newer ones counting more; 0 before the first."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """A request has ended that had its slot for so long."""
        self.seconds = seconds if not self.seconds else self.seconds + _NEWEST * (seconds - self.seconds)


def wait_seconds(service_seconds: float, slots: int, outstanding: int, own: int, principals: int) -> float:
    """About how long a further request waits for a slot. Turns go round among the principals that have requests.

    outstanding: requests of all principals, running and waiting. own: of the one that asks. principals: how many have
    some, that one included. The newcomer waits for all that are there, or for as many rounds of turns as it has
    requests before this one, whichever is less.
    """
    ahead = max(0, min(outstanding, (own + 1) * principals - 1) - slots + 1)
    return service_seconds * ahead / slots
