"""The best tokens of many rows of logits, without sorting or copying a whole vocabulary.

A row of V logits is seen as B strided rows of nb = V // B columns, so that column j holds the tokens j, j + nb, … One
`max` over the strided rows gives nb column maxima at the speed of memory. Let t be the k-th largest of them: k columns
hold a token at or above t, so at least k tokens are, and the k best of the row are all at or above t. It is enough to
look into the columns whose maximum is. The same step again, with the column maxima in place of the row, finds a t
that is cheaper and hardly lower.

Some tokens of a row, called touched, may be about to change (a bias, a penalty). They are always on the list, and t is
the k-th largest of those column maxima that are not a touched token's: so at least k untouched tokens are at or above
t, and a token that is neither touched nor at or above t has k tokens above it, whatever becomes of the touched ones.

Ties at t are all on the list; NaN counts as minus infinity. What is on a row's list depends on that row alone, never on
the rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROWS_OF_A_COLUMN: Final = 64
# So many groups of columns for each of the best: more of them would not shorten the list much.
_GROUPS_PER_BEST: Final = 4
# With more, whole columns are gathered for so many maxima that a plain pass over the row is as fast.
_SHARE_OF_COLUMNS: Final = 4

Logits = NDArray[np.float32]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Tokens of all rows in one array: `sizes[i]` of row i, in ascending order, then those of row i + 1."""

    tokens: Tokens
    logits: Logits
    sizes: NDArray[np.int64]


def best_max(n_vocab: int) -> int:
    """The largest `best` that `shortlist` takes."""
    return n_vocab // _ROWS_OF_A_COLUMN // _SHARE_OF_COLUMNS


def shortlist(logits: Logits, rows: Items[int], best: Items[int], touched: Items[Tokens]) -> Shortlist:
    """For each of `rows`, at least its touched tokens and the `best` (1 to `best_max`) highest of the others."""
    n_vocab = logits.shape[1]
    columns = n_vocab // _ROWS_OF_A_COLUMN
    grid = logits[:, : columns * _ROWS_OF_A_COLUMN].reshape(len(logits), _ROWS_OF_A_COLUMN, columns)
    row_of = np.asarray(rows)
    maxima = _maxima(grid, rows)
    keys = []
    if any(map(len, touched)):
        index, listed = _flat(touched)
        keys.append(index * n_vocab + listed)
        threshold = _thresholds(_without(maxima, index, listed, logits[row_of[index], listed]), best)
    else:
        threshold = _thresholds(maxima, best)
    index, found = _at_least(threshold, logits, grid, row_of, maxima)
    keys.append(index * n_vocab + found)
    sorted_keys = np.concatenate(keys)
    sorted_keys.sort()
    if len(keys) > 1:
        sorted_keys = sorted_keys[np.flatnonzero(np.diff(sorted_keys, prepend=-1))]
    owner, tokens = np.divmod(sorted_keys, n_vocab)
    return Shortlist(tokens, logits[row_of[owner], tokens], np.bincount(owner, minlength=len(rows)))


def _maxima(grid: Logits, rows: Items[int]) -> Logits:
    maxima = np.empty((len(rows), grid.shape[2]), np.float32)
    for index, row in enumerate(rows):
        np.maximum.reduce(grid[row], axis=0, out=maxima[index])
    return maxima


def _flat(lists: Items[Tokens]) -> tuple[Tokens, Tokens]:
    """Pairs of (index of the list, token)."""
    sizes = [len(each) for each in lists]
    return np.repeat(np.arange(len(lists)), sizes), np.concatenate(lists).astype(np.int64)


def _without(maxima: Logits, index: Tokens, touched: Tokens, values: Logits) -> Logits:
    """The maxima that are not a touched token's."""
    # A touched token of the ragged end is in no column: it may hide a maximum not its own, which only lowers t.
    column = touched % maxima.shape[1]
    hidden = values >= maxima[index, column]
    others = maxima.copy()
    others[index[hidden], column[hidden]] = -np.inf
    return others


def _thresholds(maxima: Logits, best: Items[int]) -> Logits:
    """t of each row. It must not hang on how many others want, so rows that want the same number go together."""
    wanted = np.asarray(best)
    threshold = np.empty(len(maxima), np.float32)
    for count in set(best):
        alike = np.flatnonzero(wanted == count)
        threshold[alike] = _threshold(maxima[alike], count)
    return threshold


def _threshold(maxima: Logits, best: int) -> Logits:
    """t, or a little less where that is found sooner: from the maxima of groups of columns."""
    columns = maxima.shape[1]
    size = columns // (_GROUPS_PER_BEST * best) or 1
    groups = columns // size
    work = maxima[:, : groups * size].reshape(len(maxima), size, groups).max(axis=1)
    # A column with NaN has a NaN maximum: it is no proof of a token above t, and is always looked into.
    work[np.isnan(work)] = -np.inf
    work.partition(groups - best, axis=1)
    picked: Logits = work[:, groups - best]
    return picked


def _at_least(threshold: Logits, logits: Logits, grid: Logits, row_of: Tokens, maxima: Logits) -> tuple[Tokens, Tokens]:
    """Pairs of (index of the row, token) for all tokens at or above their row's threshold, and NaN."""
    columns = maxima.shape[1]
    whole = columns * _ROWS_OF_A_COLUMN
    index, column = _places(~(maxima < threshold[:, None]))
    pair, line = _places(~(grid[row_of[index], :, column] < threshold[index, None]))
    found_index, found = index[pair], line * columns + column[pair]
    if whole == logits.shape[1]:
        return found_index, found
    end_index, end = _places(~(logits[row_of, whole:] < threshold[:, None]))
    return np.concatenate((found_index, end_index)), np.concatenate((found, end + whole))


def _places(mask: NDArray[np.bool_]) -> tuple[Tokens, Tokens]:
    """Row and column of what is true: np.nonzero, five times as fast."""
    row, column = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return row, column
