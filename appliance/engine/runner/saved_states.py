"""KV cells of preempted requests, in host memory."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp


class SavedStates:
    """At most `bytes_max` of llama.cpp's sequence states, by request number. Belongs to the engine thread.

    What does not fit is not saved, and `restore` says so: it is computed again.
    """

    def __init__(self, context: Any, bytes_max: int) -> None:
        self._context = context
        self._bytes_max = bytes_max
        self._states: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._states)

    def save(self, slot: int, number: int) -> None:
        """Copies what a slot holds."""
        self.drop(number)
        size = llama_cpp.llama_state_seq_get_size(self._context, slot)
        if size <= 0 or size + sum(map(len, self._states.values())) > self._bytes_max:
            return
        state = (ctypes.c_uint8 * size)()
        if llama_cpp.llama_state_seq_get_data(self._context, state, size, slot) == size:
            self._states[number] = state

    def restore(self, slot: int, number: int) -> bool:
        """Puts it back into an empty slot; False when there is nothing, or no room for it. It is forgotten then."""
        state = self._states.pop(number, None)
        if state is None:
            return False
        return bool(llama_cpp.llama_state_seq_set_data(self._context, state, len(state), slot) > 0)

    def drop(self, number: int) -> None:
        """Forgets a request."""
        self._states.pop(number, None)
