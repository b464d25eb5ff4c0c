"""The clock of access control."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the product; tests pass their own."""
    return datetime.now(UTC)
