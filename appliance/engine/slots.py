"""The slots of a model and the tokens that are resident in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from appliance.engine.sequence import Sequence

# How a resident sequence can be continued: `any` prefix of it, or (recurrent state) only the `whole` of it.
PrefixReuse = Literal["any", "whole"]

# A resident prefix decides the choice of a slot when it covers this share of the prompt (llama-server's default).
_SIMILARITY_MIN: Final = 0.1


@dataclass(slots=True, eq=False)
class Slot:
    """One llama.cpp seq_id. tokens: what its KV cells hold, computed for `domain`.

    released: when it last became free, in `SlotPool` order.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    domain: str = ""
    sequence: Sequence | None = None
    released: int = 0


class SlotPool:
    """All slots of a model over `n_cells` KV cells that they share.

    A slot is free or carries one sequence. A free slot keeps its tokens, for a later prompt that begins with them,
    until somebody else needs the cells.
    """

    def __init__(self, n_slots: int, n_cells: int, reuse: PrefixReuse) -> None:
        self._slots = tuple(Slot(index) for index in range(n_slots))
        self._n_cells = n_cells
        self._reuse = reuse
        self._releases = 0

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    @property
    def cells(self) -> int:
        """Cells in use."""
        return sum(len(slot.tokens) for slot in self._slots)

    @property
    def room(self) -> int:
        """Cells not in use."""
        return self._n_cells - self.cells

    @property
    def has_free(self) -> bool:
        """Whether a slot carries no sequence."""
        return any(slot.sequence is None for slot in self._slots)

    def bind(self, sequence: Sequence) -> tuple[Slot, int]:
        """Gives the sequence a free slot; returns the slot and how many tokens it held before.

        Preferred is the slot with the longest prefix worth keeping, then an empty one, then the one released first.

        The slot then holds exactly the tokens that can be reused, always at least one fewer than the sequence has:
        the last one must be computed for its logits.
        """
        free = [slot for slot in self._slots if slot.sequence is None]
        assert free, "no free slot"
        keep_min = _SIMILARITY_MIN * len(sequence.tokens)

        def preference(candidate: tuple[Slot, int]) -> tuple[int, bool, int, int]:
            slot, keep = candidate
            return keep if keep >= keep_min else 0, not slot.tokens, -slot.released, -slot.index

        slot, keep = max(((slot, self._reusable(slot, sequence)) for slot in free), key=preference)
        held = len(slot.tokens)
        del slot.tokens[keep:]
        slot.sequence = sequence
        slot.domain = sequence.cache_domain
        return slot, held

    def release(self, slot: Slot) -> None:
        """The slot is free; its tokens stay."""
        assert slot.sequence is not None, "released twice"
        slot.sequence = None
        self._releases += 1
        slot.released = self._releases

    def oldest_idle(self) -> Slot | None:
        """The free slot with tokens that was released first."""
        idle = [slot for slot in self._slots if slot.sequence is None and slot.tokens]
        return min(idle, key=lambda slot: slot.released, default=None)

    def check_integrity(self) -> None:
        """Raises AssertionError where the bookkeeping contradicts itself."""
        assert self.cells <= self._n_cells, f"{self.cells} cells in use of {self._n_cells}"
        bound = [slot.sequence for slot in self._slots if slot.sequence is not None]
        assert len(bound) == len({id(sequence) for sequence in bound}), "a sequence has two slots"
        for slot in self._slots:
            if slot.sequence is not None:
                held = len(slot.tokens)
                assert held < len(slot.sequence.tokens), f"slot {slot.index} has no token left to compute"
                assert slot.tokens == slot.sequence.tokens[:held], f"slot {slot.index} holds other tokens"

    def _reusable(self, slot: Slot, sequence: Sequence) -> int:
        if slot.domain != sequence.cache_domain:
            return 0
        common = min(common_prefix_length(slot.tokens, sequence.tokens), len(sequence.tokens) - 1)
        return common if self._reuse == "any" or common == len(slot.tokens) else 0


def common_prefix_length(left: list[int], right: list[int]) -> int:
    """How many tokens two lists share from their start; compares slices, so that long prompts stay in C."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
