"""What a run comes down to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from bench.drive import Run


class Spread(Struct, frozen=True):
    """Percentiles by nearest rank, in seconds; NaN where nothing was measured."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of these values, in any order."""
        return cls(*(percentile(seconds, share) for share in (0.50, 0.95, 0.99)))


class Figures(Struct, frozen=True, kw_only=True):
    """One contestant in one row. rate: tokens out per second of the whole run. Tokens are the server's own counts.

    gap: between chunks with text, over all streams. gap_before: the same before the row's disturbance, where it has
    one. peak_mib: largest resident size by process.
    """

    rate: float
    ttft: Spread
    gap: Spread
    gap_before: Spread | None = None
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    peak_mib: dict[str, float] = {}


def figures_of(run: Run) -> Figures:
    """Latencies are those of the answers that came whole."""
    whole = [answer for answer in run.answers if answer.error is None]
    output = sum(answer.completion_tokens for answer in whole)
    return Figures(
        rate=output / run.seconds,
        ttft=Spread.of([answer.ttft for answer in whole]),
        gap=Spread.of([gap for answer in whole for gap in answer.gaps]),
        requests=len(run.answers),
        errors=len(run.answers) - len(whole),
        prompt_tokens=sum(answer.prompt_tokens for answer in whole),
        cached_tokens=sum(answer.cached_tokens for answer in whole),
        output_tokens=output,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan
