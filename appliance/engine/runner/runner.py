"""Carries out plans on llama.cpp."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from appliance.engine.plan import Done, KeepPrefix, NoRoom, Outcome, Plan, ReuseLost
from appliance.engine.runner.batch import Batch
from appliance.engine.runner.preparer import Preparer
from appliance.engine.runner.samplers import Samplers
from appliance.engine.runner.vocabulary import Vocabulary
from appliance.engine.scheduler import Limits
from appliance.types import ModelInfo

_DECODED: Final = 0
_NO_ROOM: Final = 1


class Runner:
    """A loaded model and its KV cache. `execute`, `close_sampler` and `check_cache` belong to the engine thread.

    `preparer` and `vocabulary` may be used by the io thread. Model and context live as long as the process: the worker
    serves one model and ends.
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
    ) -> None:
        self.vocabulary = vocabulary
        self.limits = limits
        self.info = info
        self.preparer = Preparer(vocabulary, limits.n_ctx)
        self.chat_template = chat_template
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._window = int(llama_cpp.llama_model_n_swa(model))
        self._batch = Batch(limits.n_batch)
        self._samplers = Samplers(vocabulary)
        self._logits_address = 0
        self._all_logits: NDArray[np.float32] = np.empty((0, vocabulary.size), np.float32)

    def execute(self, plan: Plan) -> Outcome:
        """Cuts the cache, computes the batch and draws tokens. Raises RuntimeError when llama.cpp fails for good."""
        lost = tuple(cut.slot for cut in plan.cache if not self._cut(cut))
        if lost:
            return ReuseLost(lost)
        if not plan.items:
            return Done(())
        self._batch.fill(plan.items)
        code = llama_cpp.llama_decode(self._context, self._batch.native)
        if code == _NO_ROOM:
            return NoRoom()
        if code != _DECODED:
            raise RuntimeError(f"llama_decode failed with {code} on {plan.tokens} tokens")
        wanted = [item.sequence for item in plan.items if item.sample]
        return Done(self._samplers.draw(self._logits(len(wanted)), wanted) if wanted else ())

    def close_sampler(self, number: int) -> None:
        """The request has ended: frees what it had here."""
        self._samplers.close(number)

    def check_cache(self, residents: list[int]) -> None:
        """Raises AssertionError unless the cache holds `residents[slot]` tokens of each slot and no sampler is left."""
        assert not self._samplers, "samplers outlive their requests"
        for slot, tokens in enumerate(residents):
            last = llama_cpp.llama_memory_seq_pos_max(self._memory, slot)
            assert last == tokens - 1, f"slot {slot} ends at {last} in the cache, at {tokens - 1} in the books"

    def _cut(self, cut: KeepPrefix) -> bool:
        """False when the prefix cannot be kept; the slot is empty then.

        A recurrent state cannot go back, and a sliding window may have dropped cells that the kept prefix needs:
        `llama_memory_seq_rm` says so for the first and not for the second.
        """
        if cut.keep > 0 and llama_cpp.llama_memory_seq_rm(self._memory, cut.slot, cut.keep, -1):
            first = llama_cpp.llama_memory_seq_pos_min(self._memory, cut.slot)
            if self._window == 0 or 0 <= first <= max(0, cut.keep - self._window):
                return True
        llama_cpp.llama_memory_seq_rm(self._memory, cut.slot, -1, -1)
        return cut.keep == 0

    def _logits(self, rows: int) -> NDArray[np.float32]:
        """llama.cpp's own memory, valid until the next step: one row for each batch row that wanted logits, in order.

        Waits until they are computed.
        """
        pointer = llama_cpp.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        if address != self._logits_address:
            # Kept while llama.cpp keeps its buffer: to make the view costs 80 µs. Its later rows may not exist yet.
            self._all_logits = np.ctypeslib.as_array(pointer, shape=(self.limits.n_slots, self.vocabulary.size))
            self._logits_address = address
        return self._all_logits[:rows]
