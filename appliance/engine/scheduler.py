"""Which sequences run, on which slots, and what the next step computes.

Pure: time is an argument, nothing here waits, logs or knows llama.cpp. One step is

    plan = scheduler.schedule(now) → the runner carries it out → scheduler.commit(plan, sampled, now)

or, where the runner could not, `no_room` or `reuse_lost` in place of `commit`; then `schedule` plans anew.

Rules. A step is either the next token of every sequence that decodes, or pieces of prompts; while both are due they
take turns, and `PrefillPace` sizes the pieces by time. Who starts next is the `FairQueue`'s decision. A prompt begins
with the longest prefix that is resident anywhere in its cache domain, and waits while a running sequence is just
computing more of it; those behind it go first. When no slot is left, or the cells do not suffice, a sequence of a
lower class, or of a principal or a flow that has more than its share, is preempted: it keeps its sampler, its text and
its place in front, and its tokens stay resident until somebody needs their cells. When the cells run out beside those
that run, idle residents go first, then the youngest sequence of the lowest class.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Final

from appliance.engine.advance import Advance, Sampled
from appliance.engine.fair_queue import OUTPUT_TOKEN, PROMPT_TOKEN, FairQueue
from appliance.engine.limits import Limits
from appliance.engine.plan import BatchItem, Plan
from appliance.engine.preemption import victim_for, youngest
from appliance.engine.prefill_pace import PrefillPace
from appliance.engine.sequence import Sequence
from appliance.engine.slots import Prefix, Slot, SlotPool, common_prefix_length, sequence_in
from appliance.types import FinishReason, TokenLogprob
from appliance.wire import Event, Failed, Scored, Started

# Cells kept for the growth of each running sequence before another one starts, so that it is not preempted at once.
_HEADROOM_TOKENS: Final = 32
# A prompt waits for a sibling that will have computed at least this much more of it.
_WAIT_TOKENS_MIN: Final = 32
# Steps after a search among the waiting that found nobody.
_STEPS_WITHOUT_SEARCH: Final = 7
# While there is no slot, so many flows of a principal, those served least, may ask a step for one of another's.
_FLOWS_ASKED_MAX: Final = 4
# Of the prompts of a class and principal that were passed over in so many steps of prompts, the most patient is next.
_PASSED_OVER_MAX: Final = 8
# A step of prompts takes several of them until it has this many tokens.
_STEP_TOKENS_ENOUGH: Final = 64
# Decoding steps that slots with gaps between them may take before they are moved together: newcomers fill gaps too.
_STEPS_WITH_GAPS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class _Hold:
    """A waiting sequence lets `sibling` compute the first `until` tokens for both."""

    slot: Slot
    sibling: Sequence
    until: int

    @property
    def lasts(self) -> bool:
        return self.slot.sequence is self.sibling and len(self.slot.tokens) < self.until


class Scheduler:
    """Owns all sequences from `add` to their one Finished or Failed. Belongs to the engine thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slots = SlotPool(limits.n_slots, limits.n_cells, limits.reuse, split=limits.split, saves=limits.saves)
        self._queue = FairQueue[Sequence]()
        self._pace = PrefillPace(limits.n_batch, limits.n_ubatch)
        self._running: dict[int, Slot] = {}
        self._holds: dict[int, _Hold] = {}
        self._soonest_deadline = math.inf
        self._decoded_last = False
        self._steps_with_gaps = 0
        self._steps_until_search = 0
        self.preemptions = 0

    # ── what observers see ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> int:
        """Sequences with a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences without a slot."""
        return len(self._queue)

    @property
    def kv_cells(self) -> int:
        """Cells of the cache in use, those of idle slots included."""
        return self._slots.cells

    @property
    def has_work(self) -> bool:
        """Whether `schedule` would plan anything."""
        return bool(self._running or len(self._queue) or self._slots.has_ops)

    def residents(self) -> list[int]:
        """Tokens resident in each slot: what the runner's cache must hold while there is no work."""
        return [len(slot.tokens) for slot in self._slots]

    # ── requests come and go ──────────────────────────────────────────────────────────────────────────────────────

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence. Its prompt has at least one token and leaves room for one more in n_ctx."""
        assert 0 < sequence.prompt_tokens < self._limits.n_ctx, "the io thread checks the length"
        assert 0 <= sequence.output_max <= self._limits.n_ctx - sequence.prompt_tokens, "output_max is clipped"
        self._queue.arrive(sequence)
        self._steps_until_search = 0
        self._soonest_deadline = min(self._soonest_deadline, sequence.deadline)

    def abort(self, number: int) -> Failed | None:
        """Ends a sequence; its slot is free at once. None when the number is unknown or has ended."""
        if (slot := self._running.get(number)) is not None:
            assert slot.sequence is not None
            self._end(slot.sequence)
        elif (waiting := self._queue.find(number)) is not None:
            self._end(waiting)
        else:
            return None
        return Failed(number=number, code=None, message="aborted")

    # ── one step ──────────────────────────────────────────────────────────────────────────────────────────────────

    def schedule(self, now: float) -> Plan:
        """Decides the next step. Admissions, preemptions and cuts hold from now on; the batch counts with `commit`."""
        events = self._expire(now) if now >= self._soonest_deadline else []
        events += self._admit(now)
        if self._limits.split and not self._slots.has_ops:
            self._close_gaps()
        items, decoding = self._fill()
        self._decoded_last = decoding
        return Plan(events=tuple(events), cache=self._slots.take_ops(), items=items, decoding=decoding)

    def commit(
        self,
        plan: Plan,
        sampled: Items[Sampled],
        now: float,
        device_seconds: float = 0.0,
        scored: Items[tuple[TokenLogprob, ...]] = (),
    ) -> list[Event | Advance]:
        """The batch has run: its tokens are resident, and each sampled one goes on or ends.

        device_seconds: what the computation took; 0 when nobody knows. scored: see Done.
        """
        # A row of logits for each token costs more than a token of any other prompt will.
        if device_seconds > 0 and plan.items and not scored:
            if plan.decoding:
                self._pace.decoded(device_seconds)
            else:
                token_seconds = self._pace.prefilled(plan.tokens, device_seconds)
                for item in plan.items:
                    item.sequence.token_seconds = token_seconds
        drawn, told = iter(sampled), iter(scored)
        events: list[Event | Advance] = []
        for item in plan.items:
            self._slots.grow(self._slots[item.slot], item.tokens)
            if item.scores:
                item.sequence.scored = item.scores.stop
                events.append(Scored(number=item.sequence.number, logprobs=next(told)))
            if item.sample:
                events.append(self._advance(item.sequence, next(drawn), now))
        return events

    def no_room(self) -> list[Event]:
        """The cache had no room for the batch although the books say so: make some, whatever it costs."""
        if self._slots.evict():
            while self._slots.evict():
                pass
            return []
        if len(self._running) > 1:
            self._preempt(youngest(self._running.values()))
            self._slots.evict()
            return []
        (slot,) = self._running.values()
        assert slot.sequence is not None
        number = slot.sequence.number
        self._end(slot.sequence)
        self._slots.clear(slot)
        return [Failed(number=number, code="kv_cache_full", message="the KV cache has no room for this request")]

    def reuse_lost(self, slots: Items[int]) -> None:
        """The cache of these slots turned out empty: their sequences are computed from the start."""
        for index in slots:
            slot = self._slots[index]
            self._slots.lost(slot)
            if slot.sequence is not None:
                slot.sequence.cached = 0

    def check_integrity(self) -> None:
        """Raises AssertionError where the bookkeeping contradicts itself."""
        self._slots.check_integrity()
        bound = {slot.sequence.number: slot for slot in self._slots if slot.sequence is not None}
        assert bound == self._running, "slots and running sequences disagree"
        assert len(bound) <= self._limits.parallel, "more sequences run than may"
        waiting = {sequence.number for sequence in self._queue}
        assert not waiting & bound.keys(), "a sequence waits and runs"
        assert self._holds.keys() <= waiting, "a hold outlived its sequence"
        parked = {slot.parked.number for slot in self._slots if slot.parked is not None}
        assert parked <= waiting, "a slot is kept for a sequence that does not wait"

    # ── who starts ────────────────────────────────────────────────────────────────────────────────────────────────

    def _admit(self, now: float) -> list[Event]:
        """Gives slots to waiting sequences, in turn, while they fit.

        Where nobody could start, nobody can until somebody comes, ends or gives way, or a sibling has computed enough;
        but for the service that everybody gets, which changes slowly.
        """
        if self._steps_until_search > 0 and self._running and not self._holds:
            self._steps_until_search -= 1
            return []
        events: list[Event] = []
        while len(self._queue) and (candidate := self._candidate()) is not None:
            events += self._start(*candidate, now)
        self._steps_until_search = _STEPS_WITHOUT_SEARCH
        return events

    def _candidate(self) -> tuple[Sequence, Prefix | None] | None:
        """The next sequence to start, and its resident prefix. What it needs was taken from others already."""
        refused: set[tuple[str, int, str | None]] = set()
        asked: Counter[tuple[str, int]] = Counter()
        for sequence in self._queue.in_order(without=refused):
            if (hold := self._holds.get(sequence.number)) is not None and hold.lasts:
                continue
            victims: list[Slot] = []
            if not self._has_slot() and not self._take_one_more(victims, sequence):
                # Who may take nobody's slot must not keep another flow or principal from asking.
                line = sequence.principal, sequence.priority
                asked[line] += 1
                refused.add((*line, sequence.flow if asked[line] < _FLOWS_ASKED_MAX else None))
                continue
            prefix = self._slots.find_prefix(sequence)
            if self._waits_for_sibling(sequence, prefix):
                continue
            while not self._fits(sequence, prefix, without=victims):
                if not self._take_one_more(victims, sequence):
                    return None
            for victim in victims:
                self._preempt(victim)
            return sequence, prefix
        return None

    def _take_one_more(self, victims: list[Slot], sequence: Sequence) -> bool:
        """Adds the next one that must wait so that `sequence` can run; False where nobody must."""
        slots = [slot for slot in self._running.values() if slot not in victims]
        if (victim := victim_for(sequence, slots, self._queue)) is None:
            return False
        victims.append(victim)
        return True

    def _has_slot(self) -> bool:
        return len(self._running) < self._limits.parallel

    def _start(self, sequence: Sequence, prefix: Prefix | None, now: float) -> list[Event]:
        self._queue.take(sequence)
        self._holds.pop(sequence.number, None)
        copied_live = prefix is not None and prefix.slot.sequence is not None
        slot = self._slots.place(sequence, prefix)
        if prefix is not None and copied_live and self._limits.reuse == "whole":
            self._slots.keep_checkpoint(prefix)
        self._running[sequence.number] = slot
        if sequence.started is not None:
            # Others may have computed more of its prompt meanwhile.
            left = min(sequence.charged, _advance_charge(slot))
            self._queue.charge(sequence, left - sequence.charged)
            sequence.charged = left
            return []
        sequence.started, sequence.cached = now, len(slot.tokens)
        sequence.charged = PROMPT_TOKEN * (sequence.prompt_tokens - sequence.cached)
        self._queue.charge(sequence, sequence.charged)
        started = Started(
            number=sequence.number,
            prompt_tokens=sequence.prompt_tokens,
            cached_tokens=sequence.cached,
            answer=sequence.answer,
        )
        return [started]

    def _waits_for_sibling(self, sequence: Sequence, prefix: Prefix | None) -> bool:
        """Whether a running sequence is about to compute a longer prefix than any that is resident."""
        self._holds.pop(sequence.number, None)
        keep = max(sequence.saved, 0 if prefix is None else prefix.keep)
        for slot in self._running.values():
            sibling = slot.sequence
            assert sibling is not None
            if sibling.cache_domain != sequence.cache_domain or sibling.priority > sequence.priority:
                continue
            if _left(slot) == 1:
                continue
            until = min(common_prefix_length(sibling.tokens, sequence.tokens), sequence.reusable)
            if until > len(slot.tokens) and until - keep >= _WAIT_TOKENS_MIN:
                self._holds[sequence.number] = _Hold(slot, sibling, until)
                keep = until
        return sequence.number in self._holds

    def _fits(self, sequence: Sequence, prefix: Prefix | None, without: list[Slot]) -> bool:
        """Whether a sequence can run beside those that do, everything known of them computed."""
        slots = [slot for slot in self._running.values() if slot not in without]
        if not slots or self._limits.split:
            return True
        growth = sum(_growth(slot.sequence, len(slot.tokens)) for slot in slots if slot.sequence is not None)
        shared = prefix.keep if prefix is not None and prefix.slot in slots and prefix.keep >= sequence.saved else 0
        held = self._slots.cells_held(slots)
        return held + growth + _growth(sequence, shared) <= self._limits.n_cells

    # ── what they compute ─────────────────────────────────────────────────────────────────────────────────────────

    def _fill(self) -> tuple[tuple[BatchItem, ...], bool]:
        """The batch, and whether it is one of decoders. Empty only when nothing runs."""
        while self._running:
            decoding = [slot for slot in self._running.values() if _left(slot) == 1]
            prompts = [slot for slot in self._running.values() if _left(slot) > 1]
            if prompts and (not decoding or self._decoded_last):
                takes = self._prompt_pieces(prompts, len(decoding))
                if takes:
                    return _items(takes), False
            if decoding and self._has_room(len(decoding)):
                return _items([(slot, 1) for slot in decoding]), True
            self._preempt(youngest(self._running.values()))
        return (), False

    def _close_gaps(self) -> None:
        """Once gaps between the running slots have lasted."""
        indices = [slot.index for slot in self._running.values()]
        if not indices or max(indices) - min(indices) < len(indices):
            self._steps_with_gaps = 0
            return
        self._steps_with_gaps += 1
        if self._steps_with_gaps > _STEPS_WITH_GAPS_MAX:
            self._steps_with_gaps = 0
            for slot in self._slots.close_gaps():
                self._running[sequence_in(slot).number] = slot
            self._holds.clear()

    def _has_room(self, cells: int) -> bool:
        """Whether that many cells are free, idle residents evicted if need be."""
        while self._slots.room < cells:
            if not self._slots.evict():
                return False
        return True

    def _prompt_pieces(self, prompts: list[Slot], decoding: int) -> list[tuple[Slot, int]]:
        """A piece of the prompt whose turn it is, and of more while these are small; who decodes keeps a cell.

        Attention is computed most efficiently for one sequence at a time, everything else for many tokens at a time.
        """
        total, scored_left = 0, self._limits.scored_max
        pieces: list[tuple[Slot, int]] = []
        for slot in sorted(prompts, key=self._turn):
            left = self._until_checkpoint(slot)
            own = sequence_in(slot).token_seconds
            wanted = self._pace.piece(left, len(prompts), beside_decoders=decoding > 0, own_seconds=own)
            wanted = min(wanted, self._limits.n_batch - total)
            if sequence_in(slot).scoring:
                wanted = min(wanted, scored_left)
                scored_left -= wanted
            self._has_room(decoding + total + wanted)
            if (take := min(wanted, self._slots.room - decoding - total)) > 0:
                pieces.append((slot, take))
                total += take
            if take < left or total >= _STEP_TOKENS_ENOUGH:
                break
        taken = [slot for slot, _ in pieces]
        for slot in prompts:
            sequence_in(slot).passed_over = 0 if slot in taken else sequence_in(slot).passed_over + 1
        return pieces

    def _turn(self, slot: Slot) -> tuple[int, float, int, bool, int, int]:
        """Between principals by service; then prompts that were passed over too often, those that are soon done, those
        little was computed of, the oldest."""
        sequence, left = sequence_in(slot), _left(slot)
        level = (sequence.prompt_tokens - left) // (4 * self._limits.n_ubatch)
        served = self._queue.served(sequence.principal)
        overdue = max(0, sequence.passed_over - _PASSED_OVER_MAX + 1)
        large = not self._pace.at_once(left, sequence.token_seconds)
        return sequence.priority, served, -overdue, large, level, sequence.number

    def _until_checkpoint(self, slot: Slot) -> int:
        """Tokens to compute until somebody who waits for this one's state must take it, where it cannot go back."""
        if self._limits.reuse == "any":
            return _left(slot)
        borders = [hold.until for hold in self._holds.values() if hold.slot is slot and hold.lasts]
        return min(borders, default=len(sequence_in(slot).tokens)) - len(slot.tokens)

    def _advance(self, sequence: Sequence, sampled: Sampled, now: float) -> Advance:
        if sequence.output_max == 0:
            self._end(sequence)
            return Advance(sequence, None, "length", now)
        if sampled.failure is not None:
            self._end(sequence)
            return Advance(sequence, sampled, None, now)
        sequence.append(sampled.token, now, sampled.logprob)
        self._queue.charge(sequence, OUTPUT_TOKEN)
        text: str | None = None
        if sequence.detokenizer.may_stop:
            text = "" if sampled.is_end else sequence.detokenizer.push(sampled.piece)
        reason: FinishReason | None = None
        if sequence.detokenizer.stopped:
            # A text that had to be of some form was cut before it was.
            reason = "stop" if sequence.matcher is None else "length"
        elif sampled.is_end or sampled.complete:
            reason = "stop"
        elif sequence.output_left == 0:
            reason = "length"
        if reason is not None:
            self._end(sequence)
        return Advance(sequence, sampled, reason, now, text)

    # ── who stops ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _expire(self, now: float) -> list[Event | Advance]:
        """Ends what is past its deadline: with the text it has, or as failed where there is none."""
        sequences = [*self._queue, *(sequence_in(slot) for slot in self._running.values())]
        events: list[Event | Advance] = []
        for sequence in sequences:
            if sequence.deadline > now:
                continue
            self._end(sequence)
            if sequence.output_tokens:
                events.append(Advance(sequence, None, "length", now))
            else:
                message = "the request's time was over before its answer could begin; try again later"
                events.append(Failed(number=sequence.number, code="deadline_exceeded", message=message))
        left = (sequence.deadline for sequence in sequences if sequence.deadline > now)
        self._soonest_deadline = min(left, default=math.inf)
        return events

    def _end(self, sequence: Sequence) -> None:
        """A sequence has ended, wherever it was; its tokens stay resident."""
        self._steps_until_search = 0
        if (slot := self._running.pop(sequence.number, None)) is not None:
            sequence.charged = min(sequence.charged, _advance_charge(slot))
            self._slots.release(slot)
        else:
            self._holds.pop(sequence.number, None)
            self._queue.take(sequence)
            self._slots.forget(sequence)
            self._slots.drop_saves(sequence)
        # What of the prompt was not computed after all is not charged.
        self._queue.charge(sequence, -sequence.charged)
        self._queue.leave(sequence)

    def _preempt(self, slot: Slot) -> None:
        """A running sequence waits again, in front; its tokens stay while nobody needs their cells."""
        sequence = sequence_in(slot)
        sequence.charged = min(sequence.charged, _advance_charge(slot))
        del self._running[sequence.number]
        self._slots.release(slot, parked=True)
        self._queue.put_back(sequence)
        self._steps_until_search = 0
        self.preemptions += 1


def _left(slot: Slot) -> int:
    """Tokens of the slot's sequence that are not computed yet."""
    return len(sequence_in(slot).tokens) - len(slot.tokens)


def _advance_charge(slot: Slot) -> float:
    """What a sequence's prompt would be charged for all that is not resident."""
    return PROMPT_TOKEN * max(0, _left(slot) - 1)


def _growth(sequence: Sequence | None, resident: int) -> int:
    """Cells a sequence will need beyond `resident`: for what is known of it, and some of its answer."""
    assert sequence is not None
    return len(sequence.tokens) - resident + min(_HEADROOM_TOKENS, sequence.output_left)


def _items(takes: list[tuple[Slot, int]]) -> tuple[BatchItem, ...]:
    takes.sort(key=lambda each: each[0].index)
    return tuple(_item(slot, take) for slot, take in takes)


def _item(slot: Slot, take: int) -> BatchItem:
    sequence = sequence_in(slot)
    start = len(slot.tokens)
    end = start + take
    scores = range(sequence.scored, min(end + 1, sequence.prompt_tokens)) if sequence.scoring else range(0)
    return BatchItem(sequence, slot.index, start, sequence.tokens[start:end], end == len(sequence.tokens), scores)
