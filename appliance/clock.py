"""The wall clock, as whoever needs it is given it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

# Aware, UTC.
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the product; tests pass their own."""
    return datetime.now(UTC)
