"""The newest rows of an endless list, and which of them are shown in which order. Pure.

Rows have numbers that only grow; those of older rows that are put in front go on below zero. A view is the numbers that
pass the filter: newest first, or sorted. Appending costs what is appended; the filter is asked once for each row.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

Row = TypeVar("Row")
SortKey = Callable[[Row], float | str]


class Ring(Generic[Row]):
    """At most `rows_max` rows, and while older ones were put in front `older_max` more. Positions count from the top of
    the view.
    """

    def __init__(self, rows_max: int, older_max: int = 0) -> None:
        self.rows_max = rows_max
        self._older_max = older_max
        self._rows: deque[Row] = deque()
        # The number of the oldest row that came by itself; None while no other is there.
        self._own: int | None = None
        # The number of the oldest row that is still there.
        self._base = 0
        self._matches: Callable[[Row], bool] | None = None
        # Numbers that pass the filter, oldest first; None: all of them.
        self._passed: deque[int] | None = None
        self._sort: SortKey[Row] | None = None
        self._reverse = False
        # Numbers in sorted order; None: newest first.
        self._sorted: list[int] | None = None

    def __len__(self) -> int:
        """Rows in the view."""
        return len(self._rows) if self._passed is None else len(self._passed)

    @property
    def total(self) -> int:
        """Rows that are kept, shown or not."""
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Whether a new row takes an old one's place."""
        return len(self._rows) >= self.rows_max

    @property
    def older(self) -> int:
        """How many of them were put in front."""
        return 0 if self._own is None else max(0, self._own - self._base)

    @property
    def filtered(self) -> bool:
        """Whether there is a filter."""
        return self._matches is not None

    @property
    def ordered(self) -> bool:
        """Whether it is sorted, so that new rows may come anywhere."""
        return self._sort is not None

    def extend(self, rows: Sequence[Row]) -> int:
        """Adds newer rows, oldest of them first; how many of them are in the view."""
        first = self._base + len(self._rows)
        limit = self.rows_max + (self._older_max if self.older else 0)
        gone = max(0, len(self._rows) + len(rows) - limit)
        self._rows.extend(rows)
        self._drop(gone)
        added = range(max(first, self._base), first + len(rows))
        if self._passed is None:
            shown: Iterable[int] = added
            count = len(added)
        else:
            assert self._matches is not None
            kept = [number for number in added if self._matches(self._rows[number - self._base])]
            self._passed.extend(kept)
            while self._passed and self._passed[0] < self._base:
                self._passed.popleft()
            shown, count = kept, len(kept)
        if self._sorted is not None:
            if gone:
                self._sorted = [number for number in self._sorted if number >= self._base]
            for number in shown:
                insort(self._sorted, number, key=self._sort_key)
        return count

    def put_in_front(self, rows: Sequence[Row]) -> int:
        """Adds older rows, newest of them first; how many there was room for."""
        if self._own is None:
            self._own = self._base
        taken = rows[: max(0, self.rows_max + self._older_max - len(self._rows))]
        self._rows.extendleft(taken)
        self._base -= len(taken)
        self._build()
        return len(taken)

    def forget_older(self) -> None:
        """Drops what was put in front."""
        gone = self.older
        self._own = None
        if gone or len(self._rows) > self.rows_max:
            self._drop(max(gone, len(self._rows) - self.rows_max))
            self._build()

    def clear(self) -> None:
        """Empties it; numbers go on."""
        self._base += len(self._rows)
        self._rows.clear()
        self._own = None
        self._build()

    def select(self, matches: Callable[[Row], bool] | None) -> None:
        """Shows the rows that match; all where there is no filter."""
        self._matches = matches
        self._build()

    def sort(self, key: SortKey[Row] | None, *, reverse: bool = False) -> None:
        """Sorts the view; newest first where there is no key."""
        self._sort, self._reverse = key, reverse
        self._order()

    def number_at(self, position: int) -> int:
        """The number of the row there. IndexError where there is none."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        if self._sorted is not None:
            return self._sorted[-1 - position if self._reverse else position]
        back = len(self) - 1 - position
        return self._base + back if self._passed is None else self._passed[back]

    def position_of(self, number: int) -> int | None:
        """Where a row is; None where it is no longer, or not shown."""
        if not self._base <= number < self._base + len(self._rows):
            return None
        numbers: Sequence[int]
        if self._sorted is not None:
            numbers = self._sorted
            found = bisect_left(numbers, self._sort_key(number), key=self._sort_key)
        elif self._passed is not None:
            numbers = self._passed
            found = bisect_left(numbers, number)
        else:
            return len(self) - 1 - (number - self._base)
        if found == len(numbers) or numbers[found] != number:
            return None
        return found if self._sorted is not None and not self._reverse else len(self) - 1 - found

    def row(self, number: int) -> Row:
        """The row of a number. IndexError where it is gone."""
        if number < self._base:
            raise IndexError(number)
        return self._rows[number - self._base]

    def newest(self, count: int) -> list[Row]:
        """The newest rows of all, newest first."""
        return list(islice(reversed(self._rows), count))

    def __iter__(self) -> Iterator[Row]:
        """Every row that is kept, oldest first."""
        return iter(self._rows)

    def find(self, start: int, step: int, wanted: Callable[[Row], bool]) -> int | None:
        """The next position from `start` on, in steps of 1 or -1, whose row is wanted."""
        position = start
        while 0 <= position < len(self):
            if wanted(self.row(self.number_at(position))):
                return position
            position += step
        return None

    def _drop(self, oldest: int) -> None:
        for _ in range(oldest):
            self._rows.popleft()
        self._base += oldest

    def _build(self) -> None:
        matches = self._matches
        self._passed = (
            None
            if matches is None
            else deque(number for number, row in enumerate(self._rows, self._base) if matches(row))
        )
        self._order()

    def _order(self) -> None:
        if self._sort is None:
            self._sorted = None
            return
        numbers = range(self._base, self._base + len(self._rows)) if self._passed is None else self._passed
        self._sorted = sorted(numbers, key=self._sort_key)

    def _sort_key(self, number: int) -> tuple[float | str, int]:
        assert self._sort is not None
        return self._sort(self._rows[number - self._base]), number
