"""The memory of llama_token_data_arrays: what llama.cpp's samplers choose from."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

# struct llama_token_data and struct llama_token_data_array of include/llama.h.
_TOKEN: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_ARRAY: Final = np.dtype(
    {
        "names": ["data", "size", "selected", "sorted"],
        "formats": [np.uintp, np.uintp, np.int64, np.bool_],
        "offsets": [0, 8, 16, 24],
        "itemsize": 32,
    }
)
assert ctypes.sizeof(llama_cpp.llama_token_data) == _TOKEN.itemsize
assert ctypes.sizeof(llama_cpp.llama_token_data_array) == _ARRAY.itemsize


class Candidates:
    """One array for each row; `sizes[i]` tokens belong to row i. NaN counts as impossible: no sort can place it."""

    def __init__(self, tokens: NDArray[Any], logits: NDArray[np.float32], sizes: NDArray[np.int64]) -> None:
        self._data = np.empty(len(tokens), _TOKEN)
        self._data["id"] = tokens
        self._data["logit"] = np.where(np.isnan(logits), np.float32(-np.inf), logits)
        self._native = (llama_cpp.llama_token_data_array * len(sizes))()
        self._arrays = np.frombuffer(self._native, _ARRAY)
        self._first: int = self._data.ctypes.data
        self._arrays["data"] = self._first + (np.cumsum(sizes) - sizes) * _TOKEN.itemsize
        self._arrays["size"] = sizes
        self._arrays["selected"] = -1

    def apply(self, row: int, sampler: Any) -> None:
        """Lets a sampler or a chain of them reorder, shorten and choose."""
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(self._native[row]))

    def chosen(self) -> list[int]:
        """The token that each row's chain has drawn."""
        selected = self._arrays["selected"]
        assert ((selected >= 0) & (selected < self._arrays["size"].astype(np.int64))).all(), "a chain chose no token"
        drawn: list[int] = self._data["id"][self._starts() + selected].tolist()
        return drawn

    def left(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What a row's token was drawn from: tokens and their probabilities, in no order."""
        start = int(self._starts()[row])
        kept = self._data[start : start + int(self._arrays["size"][row])]
        return kept["id"], kept["p"]

    def _starts(self) -> NDArray[np.int64]:
        """Where each row begins now: llama.cpp's xtc drops tokens by moving the pointer."""
        return (self._arrays["data"] - self._first).astype(np.int64) // _TOKEN.itemsize
