"""The ledger of cells against the plainest model of it: a set of holders for each cell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.engine.cells import CellLedger

SLOTS = 4
slots = st.integers(0, SLOTS - 1)


class LedgerAgainstSets(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = CellLedger(SLOTS, 10_000)
        self.cells: list[list[object]] = [[] for _ in range(SLOTS)]

    @rule(slot=slots, count=st.integers(0, 9))
    def grow(self, slot: int, count: int) -> None:
        self.ledger.grow(slot, count)
        self.cells[slot] += [object() for _ in range(count)]

    @rule(slot=slots, keep=st.integers(0, 30))
    def cut(self, slot: int, keep: int) -> None:
        before = self.distinct()
        freed = self.ledger.cut(slot, keep)
        del self.cells[slot][keep:]
        assert freed == before - self.distinct()

    @rule(source=slots, copy=slots, data=st.data())
    def share(self, source: int, copy: int, data: st.DataObject) -> None:
        if source != copy and not self.cells[copy]:
            count = data.draw(st.integers(0, len(self.cells[source])))
            self.ledger.share(source, copy, count)
            self.cells[copy] = self.cells[source][:count]

    @invariant()
    def they_agree(self) -> None:
        self.ledger.check_integrity()
        assert self.ledger.used == self.distinct()
        assert [self.ledger.length(slot) for slot in range(SLOTS)] == [len(cells) for cells in self.cells]
        assert self.ledger.held([0, 1]) == len({id(cell) for slot in (0, 1) for cell in self.cells[slot]})

    def distinct(self) -> int:
        return len({id(cell) for cells in self.cells for cell in cells})


TestLedger = LedgerAgainstSets.TestCase


@given(st.integers(1, 50), st.integers(0, 50))
def test_without_sharing_a_copy_takes_cells_of_its_own(length: int, count: int) -> None:
    ledger = CellLedger(2, 200, sharing=False)
    ledger.grow(0, length)
    ledger.share(0, 1, min(count, length))
    assert ledger.used == length + min(count, length)
