"""Finding markers in a text that comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

# White space that may turn out to stand at an edge, where it means nothing; more of it is text.
SPACE_MAX: Final = 64
_PIECE_CHARS: Final = 4096


def solid(text: str) -> int:
    """Length of `text` without the white space at its end, of which at most SPACE_MAX characters count as such."""
    return max(len(text.rstrip()), len(text) - SPACE_MAX)


def pieces(text: str) -> Iterator[str]:
    """A long text in parts: what is cut off in front of a marker is copied, and may have many."""
    return (text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS))


class MarkerSearch:
    """Knows a few markers. Stateless: who searches keeps what `partial` says, and puts the next piece behind it."""

    def __init__(self, markers: Iterable[str]) -> None:
        self._markers = tuple(sorted(set(markers), key=len, reverse=True))
        assert all(self._markers), "an empty marker would be everywhere"
        self._pattern = re.compile("|".join(map(re.escape, self._markers)))

    def find(self, text: str, start: int = 0) -> re.Match[str] | None:
        """The first marker, the longest of those that begin there."""
        return self._pattern.search(text, start) if self._markers else None

    def partial(self, text: str) -> int:
        """Length of the longest end of `text` that begins a marker and is not all of it."""
        longest = 0
        for marker in self._markers:
            start = text.find(marker[0], max(0, len(text) - len(marker) + 1))
            while start >= 0 and len(text) - start > longest:
                if marker.startswith(text[start:]):
                    longest = len(text) - start
                start = text.find(marker[0], start + 1)
        return longest
