"""Computes whole texts on llama.cpp, several at once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import llama_cpp
import numpy as np
from msgspec.structs import replace

from appliance.engine.pooling.scheduler import PoolingLimits
from appliance.engine.pooling.vectors import Vector
from appliance.engine.runner.batch import Batch
from appliance.engine.runner.text_tokenizer import TextTokenizer
from appliance.types import MemoryUse, ModelInfo


class PoolingRunner:
    """A loaded model that pools. `compute` belongs to the engine thread; the rest may be read by any.

    tokenizer: may be used by the io thread. rerank_template: the file's own, see `engine.pooling.pairs`.
    Model and context live as long as the process.
    """

    def __init__(
        self,
        *,
        context: Any,
        tokenizer: TextTokenizer,
        limits: PoolingLimits,
        info: ModelInfo,
        outputs: int,
        finish: Callable[[Vector], Vector | None],
        rerank_template: str | None,
        batch_tokens: int,
    ) -> None:
        """outputs: numbers that llama.cpp makes of a text. finish: what becomes of them. batch_tokens: of a step."""
        self.tokenizer = tokenizer
        self.limits = limits
        self.info = info
        self.rerank_template = rerank_template
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch = Batch(batch_tokens)
        self._outputs = outputs
        self._finish = finish

    def measured(self, memory: MemoryUse, load_seconds: float) -> None:
        """What the load has taken."""
        self.info = replace(self.info, memory=memory, load_seconds=load_seconds)

    def compute(self, inputs: Items[list[int]]) -> list[Vector | None]:
        """The vector of length one, or the relevance, of each; None where it is no number.

        Raises RuntimeError when llama.cpp fails.
        """
        self._batch.fill_whole(inputs)
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
            code = llama_cpp.llama_decode(self._context, self._batch.native)
        else:
            code = llama_cpp.llama_encode(self._context, self._batch.native)
        if code != 0:
            tokens = sum(map(len, inputs))
            raise RuntimeError(f"llama.cpp failed with {code} on {tokens} tokens of {len(inputs)} texts")
        return [self._finish(self._pooled(sequence)) for sequence in range(len(inputs))]

    def _pooled(self, sequence: int) -> Vector:
        """A copy: llama.cpp's own memory is valid until the next step. Waits for the computation."""
        pointer = llama_cpp.llama_get_embeddings_seq(self._context, sequence)
        if not pointer:
            raise RuntimeError(f"llama.cpp has pooled nothing of text {sequence}")
        return np.ctypeslib.as_array(pointer, shape=(self._outputs,)).copy()
