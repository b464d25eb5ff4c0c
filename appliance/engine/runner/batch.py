"""The memory of a llama_batch, filled through numpy instead of element by element."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Items
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from appliance.engine.plan import BatchItem


class Batch:
    """Room for `size` tokens. `native` is the struct that llama_decode takes; it points into our arrays."""

    def __init__(self, size: int) -> None:
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._slots = np.zeros(size, np.int32)
        self._outputs = np.zeros(size, np.int8)
        # Each token names its sequences through a pointer of its own: one sequence each, in one array.
        self._counts = np.ones(size, np.int32)
        first = self._slots.ctypes.data
        self._pointers = np.arange(size, dtype=np.uintp) * self._slots.itemsize + first
        self.native = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, llama_cpp.llama_token),
            pos=_pointer(self._positions, llama_cpp.llama_pos),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._pointers, ctypes.POINTER(llama_cpp.llama_seq_id)),
            logits=_pointer(self._outputs, ctypes.c_int8),
        )

    def fill(self, items: tuple[BatchItem, ...]) -> None:
        """Lays the items out one after the other; their outputs ask for logits."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        rows: list[int] = []
        for item in items:
            rows += [len(tokens) + place for place in item.outputs]
            tokens += item.tokens
            positions += range(item.start, item.start + len(item.tokens))
            slots += [item.slot] * len(item.tokens)
        self._lay_out(tokens, positions, slots)
        self._outputs[: len(tokens)] = 0
        self._outputs[rows] = 1

    def fill_whole(self, sequences: Items[list[int]]) -> None:
        """Lays out whole sequences, the first one as sequence 0; every row is an output, as pooling wants it."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        for slot, sequence in enumerate(sequences):
            tokens += sequence
            positions += range(len(sequence))
            slots += [slot] * len(sequence)
        self._lay_out(tokens, positions, slots)
        self._outputs[: len(tokens)] = 1

    def _lay_out(self, tokens: list[int], positions: list[int], slots: list[int]) -> None:
        size = len(tokens)
        self._tokens[:size] = tokens
        self._positions[:size] = positions
        self._slots[:size] = slots
        self.native.n_tokens = size


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
