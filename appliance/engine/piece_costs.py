"""What pieces of prompts cost, by their size."""

from __future__ import annotations

from typing import Final, NamedTuple

# A slow step may be anybody's fault, a fast one shows what the device can do: it counts for more.
_SMOOTHING_UP: Final = 0.3
_SMOOTHING_DOWN: Final = 0.7


class _Point(NamedTuple):
    tokens: int
    each: float

    @property
    def seconds(self) -> float:
        return self.tokens * self.each


class PieceCosts:
    """A curve through the newest sizes, one of each power of two: a GPU takes 6 ms for any piece and some µs for each
    token, a processor takes most for tokens of small pieces. Pure.
    """

    def __init__(self) -> None:
        self._points: dict[int, _Point] = {}

    def note(self, tokens: int, seconds: float) -> None:
        """A piece of `tokens` took that long."""
        kind = tokens.bit_length()
        known = self._points.get(kind)
        self._points[kind] = _Point(tokens, smooth(None if known is None else known.each, seconds / tokens))

    def each(self, tokens: int) -> float | None:
        """Seconds for a token of a piece of `tokens`; None while nothing is known."""
        points = self._in_order()
        if not points:
            return None
        above = next((index for index, point in enumerate(points) if point.tokens >= tokens), len(points))
        if above == 0:
            return points[0].each
        if above == len(points):
            return points[-1].each
        low, high = points[above - 1], points[above]
        part = (tokens - low.tokens) / (high.tokens - low.tokens)
        return (low.seconds + part * (high.seconds - low.seconds)) / tokens

    def most_within(self, seconds: float) -> int:
        """The largest piece that takes no longer, 0 where none is known to."""
        points = self._in_order()
        for index in range(len(points) - 1, -1, -1):
            low = points[index]
            if low.seconds > seconds:
                continue
            if index + 1 == len(points):
                return int(seconds / low.each)
            high = points[index + 1]
            part = (seconds - low.seconds) / (high.seconds - low.seconds)
            return low.tokens + int(part * (high.tokens - low.tokens))
        return 0

    def _in_order(self) -> list[_Point]:
        return [self._points[kind] for kind in sorted(self._points)]


def smooth(mean: float | None, value: float) -> float:
    """The mean of a cost after one more of it."""
    if mean is None:
        return value
    return mean + (_SMOOTHING_UP if value > mean else _SMOOTHING_DOWN) * (value - mean)
