"""Carries out plans on llama.cpp."""

from __future__ import annotations

import ctypes
import itertools
import time
from typing import Any, Final, assert_never

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from appliance.engine.advance import Sampled
from appliance.engine.limits import Limits
from appliance.engine.plan import (
    BatchItem,
    CacheOp,
    CopyPrefix,
    Done,
    KeepPrefix,
    NoRoom,
    Outcome,
    Plan,
    RestoreState,
    ReuseLost,
    SaveState,
    SwapSlots,
)
from appliance.engine.runner import logprobs
from appliance.engine.runner.batch import Batch
from appliance.engine.runner.preparer import Preparer
from appliance.engine.runner.samplers import Samplers
from appliance.engine.runner.saved_states import SavedStates
from appliance.engine.runner.vocabulary import Vocabulary
from appliance.engine.sequence import Sequence
from appliance.types import ModelInfo, TokenLogprob

_DECODED: Final = 0
_NO_ROOM: Final = 1


class Runner:
    """A loaded model and its KV cache. Everything but `vocabulary`, `limits` and `info` belongs to the engine thread.

    A step is `launch`, then `collect`. On a device that computes by itself `launch` returns at once (`overlaps`), and
    the host may do other work in between. `preparer` and `vocabulary` may be used by the io thread. Model and context
    live as long as the process: the worker serves one model.
    """

    def __init__(
        self,
        *,
        model: Any,
        context: Any,
        vocabulary: Vocabulary,
        limits: Limits,
        info: ModelInfo,
        chat_template: str | None,
        saved_bytes_max: int,
    ) -> None:
        self.vocabulary = vocabulary
        self.limits = limits
        self.info = info
        self.preparer = Preparer(vocabulary, limits.n_ctx)
        self.chat_template = chat_template
        self.overlaps = info.gpu_layers > 0
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._window = int(llama_cpp.llama_model_n_swa(model))
        self._batch = Batch(limits.n_batch)
        self._samplers = Samplers(vocabulary)
        self._saved = SavedStates(context, saved_bytes_max)
        # Both ends of copies between streams that llama.cpp has noted but not carried out: nothing but its own
        # bookkeeping may read or write them.
        self._copying: set[int] = set()
        self._failed: NoRoom | ReuseLost | None = None
        self._launched = 0.0
        self._logits_address = 0
        self._all_logits: NDArray[np.float32] = np.empty((0, vocabulary.size), np.float32)

    def launch(self, plan: Plan) -> None:
        """Changes the cache and starts the computation. Raises RuntimeError when llama.cpp fails for good."""
        self._failed = None
        lost: set[int] = set()
        for op in plan.cache:
            lost |= self._carry_out(op, lost)
        if lost:
            for slot in lost:
                self._clear(slot)
            self._failed = ReuseLost(tuple(sorted(lost)))
            return
        if not plan.items:
            return
        self._batch.fill(plan.items)
        self._launched = time.perf_counter()
        code = llama_cpp.llama_decode(self._context, self._batch.native)
        if code == _DECODED:
            self._copying.clear()
            # While a device computes by itself, what may be drawn is found out.
            self._samplers.look_ahead([item.sequence for item in plan.items if item.sample])
        elif code == _NO_ROOM:
            self._failed = NoRoom()
        else:
            raise RuntimeError(f"llama_decode failed with {code} on {plan.tokens} tokens")

    def collect(self, plan: Plan) -> Outcome:
        """Waits for the computation of the plan that was launched, and draws tokens."""
        if self._failed is not None:
            return self._failed
        if not plan.items:
            return Done(())
        llama_cpp.llama_synchronize(self._context)
        device_seconds = time.perf_counter() - self._launched
        ends = list(itertools.accumulate(len(item.outputs) for item in plan.items))
        if not ends[-1]:
            return Done((), device_seconds)
        logits = self._logits(ends[-1])
        scored = [self._score(item, logits, end) for item, end in zip(plan.items, ends, strict=True) if item.scores]
        drawn = [(item.sequence, end - 1) for item, end in zip(plan.items, ends, strict=True) if item.sample]
        return Done(self._draw(logits, drawn) if drawn else (), device_seconds, tuple(scored))

    def close(self, number: int) -> None:
        """The request has ended: frees what it had here."""
        self._samplers.close(number)
        self._saved.drop(number)

    def check_cache(self, residents: list[int]) -> None:
        """Raises AssertionError unless the cache holds `residents[slot]` tokens of each slot and no request is left."""
        assert not self._samplers, "samplers outlive their requests"
        assert not self._saved, "saved states outlive their requests"
        for slot, tokens in enumerate(residents):
            last = llama_cpp.llama_memory_seq_pos_max(self._memory, slot)
            assert last == tokens - 1, f"slot {slot} ends at {last} in the cache, at {tokens - 1} in the books"

    def _score(self, item: BatchItem, logits: NDArray[np.float32], end: int) -> tuple[TokenLogprob, ...]:
        """What an item scores, of whose rows `end` is behind the last."""
        wanted = item.sequence.logprobs
        assert wanted is not None, "nobody asked"
        rows = logits[end - len(item.outputs) : end - item.sample]
        return logprobs.of_prompt(item.sequence.tokens, item.scores, rows, wanted.top, self.vocabulary.spelt)

    def _draw(self, logits: NDArray[np.float32], drawn: list[tuple[Sequence, int]]) -> tuple[Sampled, ...]:
        """A token for each sequence, from the row that it is with."""
        rows, total = [row for _, row in drawn], len(logits)

        def native(chain: Any, place: int) -> int:
            # llama.cpp counts a step's rows of logits from the end where the number is negative.
            return int(llama_cpp.llama_sampler_sample(chain, self._context, rows[place] - total))

        own = logits if len(rows) == total else logits[rows]
        return self._samplers.draw(own, [sequence for sequence, _ in drawn], native)

    def _logits(self, rows: int) -> NDArray[np.float32]:
        """llama.cpp's own memory, valid until the next step: one row for each batch row that wanted logits, in order.

        Waits until they are computed.
        """
        pointer = llama_cpp.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        if address != self._logits_address:
            # Kept while llama.cpp keeps its buffer: to make the view costs 80 µs. Its later rows may not exist yet.
            self._all_logits = np.ctypeslib.as_array(pointer, shape=(self.limits.n_batch, self.vocabulary.size))
            self._logits_address = address
        return self._all_logits[:rows]

    def _carry_out(self, op: CacheOp, lost: set[int]) -> set[int]:
        """The slots that could not follow.

        What was planned on top of `lost` ones cannot follow either: it would take an empty cache for a full one. And
        what passes through host memory must not meet a copy between streams that is still to be carried out.
        """
        unsafe = lost | self._copying
        match op:
            case KeepPrefix():
                held = {op.slot: op.slot not in lost and self._cut(op)}
            case CopyPrefix():
                held = {op.slot: not {op.source, op.slot} & lost and self._copy(op)}
            case SaveState():
                self._saved.drop(op.number)
                if op.slot not in unsafe:
                    self._saved.save(op.slot, op.number)
                return set()
            case RestoreState():
                restored = op.slot not in unsafe and self._saved.restore(op.slot, op.number)
                self._saved.drop(op.number)
                held = {op.slot: restored and self._holds(op.slot, op.keep)}
            case SwapSlots():
                slots = (op.slot, op.other)
                held = dict.fromkeys(slots, False) if unsafe & set(slots) else self._saved.swap(*slots)
            case _:
                assert_never(op)
        return {slot for slot, kept in held.items() if not kept}

    def _clear(self, slot: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def _cut(self, cut: KeepPrefix) -> bool:
        if cut.keep == 0:
            self._clear(cut.slot)
            return True
        removed = llama_cpp.llama_memory_seq_rm(self._memory, cut.slot, cut.keep, -1)
        return bool(removed) and self._holds(cut.slot, cut.keep)

    def _copy(self, copy: CopyPrefix) -> bool:
        """In split mode llama.cpp copies whole streams only, before the next batch, from what they hold now."""
        end = copy.keep
        if self.limits.split:
            end = -1
            self._copying |= {copy.source, copy.slot}
        llama_cpp.llama_memory_seq_cp(self._memory, copy.source, copy.slot, 0, end)
        if llama_cpp.llama_memory_seq_pos_max(self._memory, copy.slot) >= copy.keep:
            llama_cpp.llama_memory_seq_rm(self._memory, copy.slot, copy.keep, -1)
        return self._holds(copy.slot, copy.keep)

    def _holds(self, slot: int, keep: int) -> bool:
        """Whether a slot can be continued at position `keep`.

        A recurrent state cannot go back, and a sliding window may have dropped cells that the prefix needs:
        `llama_memory_seq_rm` says so for the first and not for the second.
        """
        if llama_cpp.llama_memory_seq_pos_max(self._memory, slot) != keep - 1:
            return False
        if self._window == 0:
            return True
        first = llama_cpp.llama_memory_seq_pos_min(self._memory, slot)
        return bool(0 <= first <= max(0, keep - self._window))
