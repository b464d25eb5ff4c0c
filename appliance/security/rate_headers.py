"""Rate limits as OpenAI's response headers tell them. Pure.

    x-ratelimit-limit-requests      60        x-ratelimit-limit-tokens      150000
    x-ratelimit-remaining-requests  59        x-ratelimit-remaining-tokens  149984
    x-ratelimit-reset-requests      1s        x-ratelimit-reset-tokens      6m0s

Reset is the time until all of the limit is there again, as Go writes a duration.
"""

from __future__ import annotations

import math

from msgspec import Struct


class RateState(Struct, frozen=True, gc=False):
    """One limit at one moment: its size, what is left of it, and seconds until all of it is."""

    limit: int
    remaining: int
    reset_seconds: float


def rate_headers(requests: RateState | None, tokens: RateState | None) -> dict[str, str]:
    """The headers; none about what is not limited."""
    headers = {}
    for name, state in (("requests", requests), ("tokens", tokens)):
        if state is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(state.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
            headers[f"x-ratelimit-reset-{name}"] = duration(state.reset_seconds)
    return headers


def duration(seconds: float) -> str:
    """`0s`, `250ms`, `8.64s`, `6m0s`, `1h12m0s`: whole milliseconds, rounded up."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, fraction = divmod(rest, 1000)
    text = f"{whole}.{fraction:03d}".rstrip("0") if fraction else f"{whole}"
    if hours:
        return f"{hours}h{minutes}m{text}s"
    return f"{minutes}m{text}s" if minutes else f"{text}s"
