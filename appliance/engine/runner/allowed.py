"""Which tokens a constraint lets come next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Tokens = NDArray[np.int64]


def words_of(n_vocab: int) -> int:
    """Size of a mask in words."""
    return (n_vocab + 31) // 32


class Allowed:
    """A view of a mask, one bit a token: bit n % 32 of word n // 32. Bits beyond the vocabulary are 0."""

    __slots__ = ("_words", "count")

    def __init__(self, words: Words) -> None:
        self._words = words
        self.count = int(np.bitwise_count(words).sum())

    def without(self, tokens: Tokens) -> Allowed:
        """Less these tokens."""
        left = self._words.copy()
        np.bitwise_and.at(left, tokens >> 5, ~(np.uint32(1) << (tokens & 31).astype(np.uint32)))
        return Allowed(left)

    def __contains__(self, token: int) -> bool:
        return bool(self._words[token >> 5] >> np.uint32(token & 31) & np.uint32(1))

    def among(self, tokens: Tokens) -> NDArray[np.bool_]:
        """Of each of `tokens`, whether it is allowed."""
        bits: Words = self._words[tokens >> 5] >> (tokens & 31).astype(np.uint32)
        return (bits & np.uint32(1)).astype(np.bool_)

    def tokens(self) -> Tokens:
        """All of them, ascending."""
        if self.count * 64 < len(self._words) * 32:
            # Few: only the words that have any are taken apart.
            used = np.flatnonzero(self._words)
            word, bit = np.divmod(np.flatnonzero(_bits(self._words[used])), 32)
            return used[word] * 32 + bit
        return np.flatnonzero(_bits(self._words))

    def applied(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of a row of logits with minus infinity for all other tokens."""
        return np.where(_bits(self._words)[: len(row)], row, np.float32(-np.inf))


def _bits(words: Words) -> NDArray[np.uint8]:
    return np.unpackbits(words.view(np.uint8), bitorder="little")
