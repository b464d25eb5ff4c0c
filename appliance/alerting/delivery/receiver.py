"""Who is told, as the outbox knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from appliance.alert_config import LeastSeverity
from appliance.alerting.message import Sender, Told
from appliance.errors import ApplianceError


class DeliveryError(ApplianceError):
    """A receiver was not reached, or refused. The message goes on from the receiver's name."""


class Receiver(Protocol):
    """One that appliance.yaml names."""

    @property
    def name(self) -> str:
        """What it is called in answers and logs: its kind and where it is; no secret."""
        ...

    @property
    def severity(self) -> LeastSeverity:
        """The least that it is told of."""
        ...

    async def deliver(self, batch: Sequence[Told], sender: Sender) -> None:
        """Once it returns, all of the batch has arrived, as far as the protocol tells. Raises DeliveryError.

        May be cancelled. Files are read anew each time, so that changed ones count.
        """
        ...

    def check(self) -> None:
        """Reads its files, and waits for the disk. Raises DeliveryError for what could never work."""
        ...
