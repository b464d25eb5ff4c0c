"""The tokens that penalties look back on."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
from numpy.typing import NDArray


class RecentTokens:
    """The distinct ones among the last `size` tokens; nothing when size is 0."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._order: deque[int] = deque(maxlen=size)
        self._counts: Counter[int] = Counter()

    def push(self, token: int) -> None:
        """A token follows."""
        if self.size == 0:
            return
        if len(self._order) == self.size:
            oldest = self._order[0]
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        self._order.append(token)
        self._counts[token] += 1

    def distinct(self) -> NDArray[np.int64]:
        """Each once, in no order."""
        return np.fromiter(self._counts, np.int64, len(self._counts))
