"""Which tokens a constraint lets come next."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]

WORD_BITS: Final = 32
# What a byte of a mask adds to its eight logits. Adding costs a fifth of choosing, which no processor can foresee.
_ADDED: Final = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0, -np.inf)
_ADDED_BY_BYTE: Final = _ADDED.astype(np.float32)


def words_of(n_vocab: int) -> int:
    """Size of a mask in words."""
    return (n_vocab + WORD_BITS - 1) // WORD_BITS


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

    def applied(self, row: Logits, out: Logits) -> None:
        """Writes a row of logits to `out`, with minus infinity (NaN where that was NaN or infinite) for other tokens.

        out: contiguous, with room for every bit; what is beyond the row is minus infinity.
        """
        # Nothing is out of bounds: to be told to clip saves numpy a copy of its own.
        np.take(_ADDED_BY_BYTE, self._words.view(np.uint8), axis=0, out=out.reshape(-1, 8), mode="clip")
        with np.errstate(invalid="ignore"):
            out[: len(row)] += row


def _bits(words: Words) -> NDArray[np.bool_]:
    """As truth values, which numpy searches ten times as fast as bytes."""
    return np.unpackbits(words.view(np.uint8), bitorder="little").view(np.bool_)
