"""The slots of a model, the tokens that are resident in them, and where a prompt finds its beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from appliance.engine.cells import CellLedger
from appliance.engine.plan import CacheOp, CopyPrefix, KeepPrefix, RestoreState, SaveState, SwapSlots
from appliance.engine.sequence import Sequence

# How a resident sequence can be continued: `any` prefix of it, or (recurrent state) only the `whole` of it.
PrefixReuse = Literal["any", "whole"]

# A resident whose tail beyond the common prefix is at most this share of the prefix is the same conversation: the next
# turn takes its slot over. Any other prompt copies the prefix and leaves the resident to its owner.
_TAIL_SHARE_MAX: Final = 0.125
# Where a copy moves a whole stream of the cache and spare slots are few, a tail is given up sooner, and fewer tokens
# than this are computed instead of copied.
_TAIL_SHARE_MAX_SPLIT: Final = 0.5
_STREAM_COPY_MIN: Final = 32
# Two slots that are exchanged pass through host memory; longer ones stay where they are.
_EXCHANGE_TOKENS_MAX: Final = 16_384


@dataclass(slots=True, eq=False)
class Slot:
    """One llama.cpp seq_id. tokens: what its KV cells hold, computed for `domain`.

    released: when it last became free, in `SlotPool` order. parked: the sequence that ran here and waits to go on.
    checkpoint: a recurrent state kept to be copied, never to be continued in place.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    domain: str = ""
    sequence: Sequence | None = None
    released: int = 0
    parked: Sequence | None = None
    checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """The longest beginning of a prompt that is resident: `keep` tokens in `slot`."""

    slot: Slot
    keep: int


class SlotPool:
    """All slots of a model over its KV cells.

    A slot is free or carries one sequence. A free slot keeps its tokens, for a later prompt that begins with them,
    until somebody else needs the slot or its cells. What must happen to the real cache is noted, in order, until
    `take_ops`.
    """

    def __init__(
        self, n_slots: int, n_cells: int, reuse: PrefixReuse, *, split: bool = False, saves: bool = True
    ) -> None:
        self._slots = tuple(Slot(index) for index in range(n_slots))
        self._ledger = CellLedger(n_slots, n_cells, sharing=not split)
        self._reuse = reuse
        self._split = split
        self._saves = saves
        self._releases = 0
        self._ops: list[CacheOp] = []

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    @property
    def cells(self) -> int:
        """Cells in use."""
        return self._ledger.used

    @property
    def room(self) -> int:
        """Cells not in use."""
        return self._ledger.room

    def cells_held(self, slots: Iterable[Slot]) -> int:
        """Distinct cells that these slots hold."""
        return self._ledger.held(slot.index for slot in slots)

    @property
    def has_ops(self) -> bool:
        """Whether the real cache is behind the books."""
        return bool(self._ops)

    def take_ops(self) -> tuple[CacheOp, ...]:
        """What the real cache must follow, in order."""
        ops, self._ops = tuple(self._ops), []
        return ops

    def free_slot(self) -> Slot | None:
        """The free slot whose loss costs least: an empty one, then one nobody comes back for, then by age."""
        free = [slot for slot in self._slots if slot.sequence is None]
        return min(free, key=self._loss, default=None)

    def find_prefix(self, sequence: Sequence) -> Prefix | None:
        """Where the longest reusable beginning of a sequence is resident, in its cache domain.

        Always at least one token short of the sequence: the last one must be computed for its logits. Where logits of
        the prompt are wanted too, only what they were computed for already.
        """
        found = [Prefix(slot, keep) for slot in self._slots if (keep := self._reusable(slot, sequence)) > 0]
        return max(found, key=lambda prefix: (prefix.keep, prefix.slot.sequence is None), default=None)

    def place(self, sequence: Sequence, prefix: Prefix | None) -> Slot:
        """Gives the sequence a free slot that holds `prefix`, or what it saved when it was preempted; then binds it.

        The prefix is cut to size where it is, or copied from there when the slot is in use or somebody may come back.
        """
        target = self.free_slot()
        assert target is not None, "no free slot"
        self.forget(sequence)
        if prefix is not None and sequence.saved > prefix.keep:
            prefix = None
        if prefix is not None and self._takes_over(sequence, prefix, target):
            target = prefix.slot
            self._save_parked(target)
            self.cut(target, prefix.keep)
        else:
            self.clear(target)
            if prefix is not None and not (self._split and prefix.keep < _STREAM_COPY_MIN):
                self._copy(prefix, target)
        if sequence.saved and not target.tokens:
            self._restore(sequence, target)
        sequence.saved = 0
        target.sequence, target.domain, target.checkpoint = sequence, sequence.cache_domain, False
        return target

    def grow(self, slot: Slot, tokens: list[int]) -> None:
        """These tokens of the slot's sequence were computed."""
        slot.tokens += tokens
        self._ledger.grow(slot.index, len(tokens))

    def release(self, slot: Slot, *, parked: bool = False) -> None:
        """The slot is free; its tokens stay. parked: its sequence will go on."""
        assert slot.sequence is not None, "released twice"
        slot.parked = slot.sequence if parked else None
        slot.sequence = None
        self._releases += 1
        slot.released = self._releases

    def keep_checkpoint(self, prefix: Prefix) -> None:
        """Copies a state that exists only now to an empty slot, for prompts that are still to come."""
        target = self.free_slot()
        if target is None or target.tokens or target.parked is not None:
            return
        self._copy(prefix, target)
        target.domain, target.checkpoint = prefix.slot.domain, True
        self._releases += 1
        target.released = self._releases

    def close_gaps(self) -> list[Slot]:
        """Moves running sequences next to each other, by as few exchanges as can be; returns their new slots.

        With one stream per slot llama.cpp computes neighbours in one pass, and everybody else in a pass of their own.
        """
        running = [slot.index for slot in self._slots if slot.sequence is not None]
        starts = range(len(self._slots) - len(running) + 1)
        start = max(starts, key=lambda start: sum(start <= index < start + len(running) for index in running))
        window = range(start, start + len(running))
        holes = [index for index in window if index not in running]
        outside = [index for index in running if index not in window]
        pairs = [(self._slots[here], self._slots[hole]) for here, hole in zip(outside, holes, strict=True)]
        small = [pair for pair in pairs if sum(len(slot.tokens) for slot in pair) <= _EXCHANGE_TOKENS_MAX]
        return [self._exchange(here, hole) for here, hole in small]

    def evict(self) -> bool:
        """Empties the free slot with tokens whose loss costs least; False when there is none."""
        idle = [slot for slot in self._slots if slot.sequence is None and slot.tokens]
        if not idle:
            return False
        self.clear(min(idle, key=self._loss))
        return True

    def cut(self, slot: Slot, keep: int) -> None:
        """A free slot forgets what it holds from position `keep` on."""
        if len(slot.tokens) > keep:
            del slot.tokens[keep:]
            self._ledger.cut(slot.index, keep)
            self._ops.append(KeepPrefix(slot.index, keep))

    def clear(self, slot: Slot) -> None:
        """A slot forgets everything; the state of a parked sequence is saved first."""
        self._save_parked(slot)
        slot.checkpoint = False
        self.cut(slot, 0)

    def forget(self, sequence: Sequence) -> None:
        """No slot is kept for a sequence any more."""
        for slot in self._slots:
            if slot.parked is sequence:
                slot.parked = None

    def drop_saves(self, sequence: Sequence) -> None:
        """A sequence has ended: nothing of it that is yet to be saved will be wanted."""
        self._ops = [op for op in self._ops if not (isinstance(op, SaveState) and op.number == sequence.number)]

    def lost(self, slot: Slot) -> None:
        """The real cache turned out to hold nothing of this slot."""
        slot.tokens.clear()
        slot.checkpoint = False
        self._ledger.cut(slot.index, 0)

    def check_integrity(self) -> None:
        """Raises AssertionError where the bookkeeping contradicts itself."""
        self._ledger.check_integrity()
        bound = [slot.sequence for slot in self._slots if slot.sequence is not None]
        assert len(bound) == len({id(sequence) for sequence in bound}), "a sequence has two slots"
        for slot in self._slots:
            held = len(slot.tokens)
            assert held == self._ledger.length(slot.index), f"slot {slot.index} holds other cells than tokens"
            assert slot.sequence is None or slot.parked is None, f"slot {slot.index} is parked and running"
            if (sequence := slot.sequence or slot.parked) is not None:
                assert held < len(sequence.tokens), f"slot {slot.index} has no token left to compute"
                assert slot.tokens == sequence.tokens[:held], f"slot {slot.index} holds other tokens"

    def _takes_over(self, sequence: Sequence, prefix: Prefix, target: Slot) -> bool:
        """Whether a prompt continues in the slot where its beginning is."""
        slot = prefix.slot
        if slot.sequence is not None:
            return False
        if slot is target or slot.parked is sequence:
            return True
        kept_for_others = slot.checkpoint or slot.parked is not None
        share = _TAIL_SHARE_MAX_SPLIT if self._split else _TAIL_SHARE_MAX
        return not kept_for_others and len(slot.tokens) - prefix.keep <= share * prefix.keep

    def _exchange(self, slot: Slot, other: Slot) -> Slot:
        """Moves a running sequence to a free slot, whose resident comes back here."""
        self._ops.append(SwapSlots(slot.index, other.index))
        self._ledger.swap(slot.index, other.index)
        slot.tokens, other.tokens = other.tokens, slot.tokens
        slot.domain, other.domain = other.domain, slot.domain
        slot.sequence, other.sequence = other.sequence, slot.sequence
        slot.released, other.released = other.released, slot.released
        slot.parked, other.parked = other.parked, slot.parked
        slot.checkpoint, other.checkpoint = other.checkpoint, slot.checkpoint
        return other

    def _save_parked(self, slot: Slot) -> None:
        """What a parked sequence has computed here is about to go: its state is saved."""
        if slot.parked is not None and slot.tokens and self._saves:
            slot.parked.saved = len(slot.tokens)
            self._ops.append(SaveState(slot.index, slot.parked.number))
        slot.parked = None

    def _copy(self, prefix: Prefix, target: Slot) -> None:
        source, keep = prefix.slot, prefix.keep
        target.tokens[:] = source.tokens[:keep]
        self._ledger.share(source.index, target.index, keep)
        self._ops.append(CopyPrefix(source.index, target.index, keep))

    def _restore(self, sequence: Sequence, target: Slot) -> None:
        """Puts the saved state back into an empty slot, if idle residents leave the cells."""
        while self.room < sequence.saved and self.evict():
            pass
        if self.room < sequence.saved:
            return
        self.grow(target, sequence.tokens[: sequence.saved])
        self._ops.append(RestoreState(target.index, sequence.number, len(target.tokens)))

    def _loss(self, slot: Slot) -> tuple[bool, bool, int, int]:
        return bool(slot.tokens), slot.parked is not None, slot.released, slot.index

    def _reusable(self, slot: Slot, sequence: Sequence) -> int:
        if slot.domain != sequence.cache_domain or not slot.tokens:
            return 0
        common = min(common_prefix_length(slot.tokens, sequence.tokens), sequence.reusable)
        return common if self._reuse == "any" or common == len(slot.tokens) else 0


def sequence_in(slot: Slot) -> Sequence:
    """The sequence that runs in a slot which is not free."""
    assert slot.sequence is not None, "the slot is free"
    return slot.sequence


def common_prefix_length(left: list[int], right: list[int]) -> int:
    """How many tokens two lists share from their start.

    Compares slices, which stays in C: doubling ones until they differ, then halving ones.
    """
    size = min(len(left), len(right))
    low, width = 0, 16
    while low < size and left[low : low + width] == right[low : low + width]:
        low += width
        width *= 2
    if low >= size:
        return size
    high = min(low + width, size)
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
