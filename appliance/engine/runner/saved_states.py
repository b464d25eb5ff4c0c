"""KV cells of preempted requests, in host memory."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp


class SavedStates:
    """llama.cpp's sequence states, at most `bytes_max` of them, by request number. Belongs to the engine thread.

    What does not fit is not saved, and `restore` says so: it is computed again.
    """

    def __init__(self, context: Any, bytes_max: int) -> None:
        self._context = context
        self._bytes_max = bytes_max
        self._states: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._states)

    def save(self, slot: int, number: int) -> None:
        """Copies what a slot holds; nothing may be saved for that number yet."""
        room = self._bytes_max - sum(map(len, self._states.values()))
        if llama_cpp.llama_state_seq_get_size(self._context, slot) <= room:
            self._states[number] = self._read(slot)

    def restore(self, slot: int, number: int) -> bool:
        """Puts it back into an empty slot; False when there is nothing, or no room for it. It is forgotten then."""
        state = self._states.pop(number, None)
        return state is not None and self._write(slot, state)

    def swap(self, slot: int, other: int) -> dict[int, bool]:
        """Two slots exchange what they hold; says of each whether it holds what it should."""
        states = {slot: self._read(other), other: self._read(slot)}
        for each in states:
            llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), each, -1, -1)
        return {each: self._write(each, state) for each, state in states.items()}

    def drop(self, number: int) -> None:
        """Forgets a request."""
        self._states.pop(number, None)

    def _read(self, slot: int) -> Any:
        size = llama_cpp.llama_state_seq_get_size(self._context, slot)
        state = (ctypes.c_uint8 * size)()
        copied = llama_cpp.llama_state_seq_get_data(self._context, state, size, slot)
        assert copied == size, f"slot {slot}: {copied} of {size} bytes saved"
        return state

    def _write(self, slot: int, state: Any) -> bool:
        return bool(llama_cpp.llama_state_seq_set_data(self._context, state, len(state), slot) > 0)
