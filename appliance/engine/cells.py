"""Which cells of the KV cache the slots hold, and which of them they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Run:
    """Consecutive cells with the same holders."""

    length: int
    holders: set[int]


class CellLedger:
    """Counts cells the way llama.cpp's unified cache uses them: one holds a token for every slot that shares it.

    A slot's cells are a list of runs in order of position. Sharing a prefix makes its runs common to both slots; a cell
    is free when nobody holds it. With `sharing=False` (one stream per slot) a shared prefix takes cells of its own.
    """

    def __init__(self, n_slots: int, n_cells: int, *, sharing: bool = True) -> None:
        self._runs: list[list[_Run]] = [[] for _ in range(n_slots)]
        self._n_cells = n_cells
        self._sharing = sharing
        self.used = 0

    @property
    def room(self) -> int:
        """Cells that nobody holds."""
        return self._n_cells - self.used

    def held(self, slots: Iterable[int]) -> int:
        """Distinct cells that these slots hold."""
        seen: dict[int, int] = {}
        for slot in slots:
            for run in self._runs[slot]:
                seen[id(run)] = run.length
        return sum(seen.values())

    def length(self, slot: int) -> int:
        """Cells a slot holds, shared ones included."""
        return sum(run.length for run in self._runs[slot])

    def grow(self, slot: int, count: int) -> None:
        """A slot takes `count` free cells."""
        runs = self._runs[slot]
        if runs and len(runs[-1].holders) == 1:
            runs[-1].length += count
        elif count:
            runs.append(_Run(count, {slot}))
        self.used += count

    def cut(self, slot: int, keep: int) -> int:
        """A slot gives up its cells from position `keep` on; returns how many became free."""
        self._split(slot, keep)
        runs = self._runs[slot]
        before, position = self.used, self.length(slot)
        while position > keep:
            run = runs.pop()
            position -= run.length
            run.holders.discard(slot)
            if not run.holders:
                self.used -= run.length
        return before - self.used

    def share(self, source: int, target: int, count: int) -> None:
        """An empty slot takes the first `count` cells of another one as its own."""
        assert not self._runs[target], "the target must be empty"
        if not self._sharing:
            self.grow(target, count)
            return
        self._split(source, count)
        position = 0
        for run in self._runs[source]:
            if position >= count:
                break
            run.holders.add(target)
            self._runs[target].append(run)
            position += run.length

    def swap(self, slot: int, other: int) -> None:
        """Two slots exchange their cells; only where nothing is shared."""
        assert not self._sharing, "shared runs know their holders"
        self._runs[slot], self._runs[other] = self._runs[other], self._runs[slot]
        for each in (slot, other):
            for run in self._runs[each]:
                run.holders = {each}

    def check_integrity(self) -> None:
        """Raises AssertionError where the ledger contradicts itself."""
        assert self.used <= self._n_cells, f"{self.used} cells in use of {self._n_cells}"
        assert self.used == self.held(range(len(self._runs))), "the count of used cells is wrong"
        for slot, runs in enumerate(self._runs):
            assert all(run.length > 0 and slot in run.holders for run in runs), f"slot {slot} holds a foreign run"

    def _split(self, slot: int, at: int) -> None:
        """Makes position `at` of a slot a border between runs, for everyone who holds the run."""
        position = 0
        for run in self._runs[slot]:
            if position < at < position + run.length:
                rest = _Run(position + run.length - at, set(run.holders))
                run.length = at - position
                for holder in rest.holders:
                    held = self._runs[holder]
                    held.insert(held.index(run) + 1, rest)
                return
            position += run.length
