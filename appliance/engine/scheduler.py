"""Which sequences run, on which slots, and what the next step computes.

Pure: time is an argument, nothing here waits, logs or knows llama.cpp. One step is

    plan = scheduler.schedule(now) → the runner carries it out → scheduler.commit(plan, sampled, now)

or, where the runner could not, `no_room` or `reuse_lost` in place of `commit`; then `schedule` plans anew.

Rules. Sequences that decode come first; prompts fill the rest of the step. Requests start in order of arrival, each
when a slot is free and its prompt fits. When the cells run out, idle residents go first (the one released first),
then the youngest running sequence is preempted: it keeps its sampler, its text and its place at the head of the queue
and is computed again later. So every running sequence is older than every waiting one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Final

from appliance.engine.plan import BatchItem, KeepPrefix, Plan, Sampled
from appliance.engine.sequence import Sequence
from appliance.engine.slots import PrefixReuse, Slot, SlotPool
from appliance.types import FinishReason
from appliance.wire import Delta, Event, Failed, Finished, Started

# Cells kept for the growth of each running sequence before another one starts, so that it is not preempted at once.
_HEADROOM_TOKENS: Final = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """n_slots: sequences in a step. n_cells: KV cells of all slots. n_ctx: cells one sequence may use.

    n_batch: tokens of a step, at least n_slots. n_ubatch: tokens of a step in which some sequence decodes.
    """

    n_slots: int
    n_cells: int
    n_ctx: int
    n_batch: int
    n_ubatch: int
    reuse: PrefixReuse

    def __post_init__(self) -> None:
        assert self.n_slots <= self.n_batch, "every slot must be able to decode in one step"
        assert self.n_ctx <= self.n_cells, "one sequence must always fit"


class Scheduler:
    """Owns all sequences from `add` to their one Finished or Failed. Belongs to the engine thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slots = SlotPool(limits.n_slots, limits.n_cells, limits.reuse)
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Slot] = {}
        self._cuts: list[KeepPrefix] = []

    # ── what observers see ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> int:
        """Sequences with a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences without a slot."""
        return len(self._waiting)

    @property
    def kv_cells(self) -> int:
        """Tokens resident in the cache, those of idle slots included."""
        return self._slots.cells

    @property
    def has_work(self) -> bool:
        """Whether `schedule` would plan anything."""
        return bool(self._running or self._waiting or self._cuts)

    def residents(self) -> list[int]:
        """Tokens resident in each slot: what the runner's cache must hold while there is no work."""
        return [len(slot.tokens) for slot in self._slots]

    # ── requests come and go ──────────────────────────────────────────────────────────────────────────────────────

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence. Its prompt has at least one token and leaves room for one more in n_ctx."""
        assert 0 < sequence.prompt_tokens < self._limits.n_ctx, "the io thread checks the length"
        assert 0 < sequence.output_max <= self._limits.n_ctx - sequence.prompt_tokens, "output_max is clipped"
        self._waiting.append(sequence)

    def abort(self, number: int) -> Failed | None:
        """Ends a sequence; its slot is free at once. None when the number is unknown or has ended."""
        if (slot := self._running.pop(number, None)) is not None:
            self._slots.release(slot)
        elif (queued := self._queued(number)) is not None:
            self._waiting.remove(queued)
        else:
            return None
        return Failed(number=number, code=None, message="aborted")

    # ── one step ──────────────────────────────────────────────────────────────────────────────────────────────────

    def schedule(self, now: float) -> Plan:
        """Decides the next step. Admissions, preemptions and cuts hold from now on; the batch counts with `commit`."""
        self._make_room_to_decode()
        started = self._admit(now)
        items = self._fill()
        assert items or not (self._running or self._waiting), "nothing to compute while there is work"
        cuts, self._cuts = tuple(self._cuts), []
        return Plan(events=started, cache=cuts, items=items)

    def commit(self, plan: Plan, sampled: Items[Sampled], now: float) -> list[Event]:
        """The batch has run: its tokens are resident, and each sampled one may make text or an end."""
        drawn = iter(sampled)
        events: list[Event] = []
        for item in plan.items:
            self._slots[item.slot].tokens += item.tokens
            if item.sample:
                events += self._advance(item.sequence, next(drawn), now)
        return events

    def no_room(self) -> list[Event]:
        """The cache had no room for the batch although the books say so: make some, whatever it costs."""
        if self._drop_idle():
            while self._drop_idle():
                pass
            return []
        if len(self._running) > 1:
            self._preempt_youngest()
            return []
        (number,) = self._running
        slot = self._running.pop(number)
        self._slots.release(slot)
        self._clear(slot)
        return [Failed(number=number, code="internal_error", message="the KV cache has no room for this request")]

    def reuse_lost(self, slots: Items[int]) -> None:
        """The cache of these slots turned out empty: their sequences are computed from the start."""
        for index in slots:
            slot = self._slots[index]
            slot.tokens.clear()
            if slot.sequence is not None:
                slot.sequence.cached = 0

    def check_integrity(self) -> None:
        """Raises AssertionError where the bookkeeping contradicts itself."""
        self._slots.check_integrity()
        bound = {slot.sequence.number: slot for slot in self._slots if slot.sequence is not None}
        assert bound == self._running, "slots and running sequences disagree"
        order = [*sorted(self._running), *(sequence.number for sequence in self._waiting)]
        assert order == sorted(set(order)), "a younger sequence runs before an older one"

    # ── how ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_room_to_decode(self) -> None:
        """Finds a cell for every sequence that decodes."""
        while sum(_left(slot) == 1 for slot in self._running.values()) > self._slots.room:
            if not self._drop_idle():
                self._preempt_youngest()

    def _admit(self, now: float) -> tuple[Event, ...]:
        """Gives slots to waiting sequences, in order, while their prompts fit."""
        events: list[Event] = []
        while self._waiting and self._slots.has_free and self._fits(self._waiting[0]):
            sequence = self._waiting.popleft()
            slot, held = self._slots.bind(sequence)
            keep = len(slot.tokens)
            if held > keep:
                self._cuts.append(KeepPrefix(slot.index, keep))
            self._running[sequence.number] = slot
            if sequence.started is None:
                sequence.started, sequence.cached = now, keep
                events.append(Started(number=sequence.number, prompt_tokens=sequence.prompt_tokens, cached_tokens=keep))
        return tuple(events)

    def _fits(self, sequence: Sequence) -> bool:
        """Whether a sequence can run beside those that do, everything known of them computed."""
        sequences = [sequence, *(slot.sequence for slot in self._running.values() if slot.sequence is not None)]
        wanted = sum(len(each.tokens) + min(_HEADROOM_TOKENS, each.output_left) for each in sequences)
        return not self._running or wanted <= self._limits.n_cells

    def _fill(self) -> tuple[BatchItem, ...]:
        """The batch: a token of each sequence that decodes, then prompts, oldest first, while budget and cells last."""
        slots = [self._running[number] for number in sorted(self._running)]
        decoding = [slot for slot in slots if _left(slot) == 1]
        takes = [(slot, 1) for slot in decoding]
        budget = self._budget(len(decoding)) - len(decoding)
        room = self._slots.room - len(decoding)
        for slot in slots:
            if (left := _left(slot)) > 1:
                while (take := min(left, budget)) > room and (freed := self._drop_idle()):
                    room += freed
                if (take := min(take, room)) > 0:
                    takes.append((slot, take))
                    budget, room = budget - take, room - take
        return tuple(_item(slot, take) for slot, take in sorted(takes, key=lambda each: each[0].index))

    def _budget(self, decoding: int) -> int:
        """Tokens of a step. A step with decoders is short, so that a long prompt does not stall their streams."""
        if decoding == 0:
            return self._limits.n_batch
        return min(self._limits.n_batch, max(self._limits.n_ubatch, 2 * decoding))

    def _advance(self, sequence: Sequence, sampled: Sampled, now: float) -> list[Event]:
        sequence.append(sampled.token, now, sampled.logprob)
        text = "" if sampled.is_end else sequence.detokenizer.push(sampled.piece)
        reason: FinishReason | None = None
        if sampled.is_end or sequence.detokenizer.stopped:
            reason = "stop"
        elif sequence.output_left == 0:
            reason = "length"
        if reason is not None:
            text += sequence.detokenizer.finish()
        events: list[Event] = []
        if text:
            count, logprobs = sequence.report()
            events.append(Delta(number=sequence.number, text=text, tokens=count, logprobs=logprobs))
        if reason is not None:
            self._slots.release(self._running.pop(sequence.number))
            events.append(
                Finished(number=sequence.number, reason=reason, usage=sequence.usage, timings=sequence.timings(now))
            )
        return events

    def _drop_idle(self) -> int:
        """Empties the free slot that was released first; returns how many cells that gave."""
        if (slot := self._slots.oldest_idle()) is None:
            return 0
        return self._clear(slot)

    def _preempt_youngest(self) -> None:
        """Takes the slot of the youngest running sequence; it waits at the head of the queue."""
        slot = self._running.pop(max(self._running))
        assert slot.sequence is not None
        self._waiting.appendleft(slot.sequence)
        self._slots.release(slot)
        self._clear(slot)

    def _clear(self, slot: Slot) -> int:
        freed = len(slot.tokens)
        slot.tokens.clear()
        self._cuts.append(KeepPrefix(slot.index, 0))
        return freed

    def _queued(self, number: int) -> Sequence | None:
        return next((sequence for sequence in self._waiting if sequence.number == number), None)


def _left(slot: Slot) -> int:
    """Tokens of the slot's sequence that are not computed yet."""
    assert slot.sequence is not None
    return len(slot.sequence.tokens) - len(slot.tokens)


def _item(slot: Slot, take: int) -> BatchItem:
    assert slot.sequence is not None
    start = len(slot.tokens)
    tokens = slot.sequence.tokens[start : start + take]
    return BatchItem(slot.sequence, slot.index, start, tokens, start + take == len(slot.sequence.tokens))
