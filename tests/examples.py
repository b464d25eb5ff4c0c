"""How many examples a property that costs more, or needs more, than others gets."""

from __future__ import annotations

from hypothesis import settings


def at_most(count: int) -> int:
    """`count`, or what the profile `quick` gives any property where that is the one in force."""
    return min(count, settings().max_examples) if settings.get_current_profile_name() == "quick" else count
