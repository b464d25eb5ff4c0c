"""llama.cpp's sampler against repetition (DRY), made ahead of the first draw."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import llama_cpp

from appliance.engine.runner.vocabulary import Vocabulary
from appliance.types import SamplingParams

_KEPT: Final = 16


class DryPenalty:
    """Owns a DRY sampler until a chain takes it; frees it when nobody does. last_n: tokens that it looks back on."""

    def __init__(self, native: Any, last_n: int) -> None:
        self.last_n = last_n
        self._native = native
        self._free = weakref.finalize(self, llama_cpp.llama_sampler_free, native)

    def clone(self) -> DryPenalty:
        """Another one with the same settings and memory."""
        return DryPenalty(llama_cpp.llama_sampler_clone(self._native), self.last_n)

    def take(self) -> Any:
        """The llama.cpp sampler; the caller owns it from now on."""
        self._free.detach()
        return self._native


class DryPenalties:
    """Makes them; belongs to the io thread.

    To find which tokens a sequence breaker may begin in, llama.cpp writes out the whole vocabulary: 6 ms a breaker at
    152k tokens. So it is done where no stream waits for it, and the last few settings are kept.
    """

    def __init__(self, vocabulary: Vocabulary, n_ctx: int) -> None:
        self._vocabulary = vocabulary
        self._n_ctx = n_ctx
        self._prototype: Callable[..., DryPenalty] = lru_cache(_KEPT)(self._make)

    def make(self, params: SamplingParams) -> DryPenalty:
        """For one request; the penalty must be on."""
        whole = params.dry_penalty_last_n < 0
        last_n = self._n_ctx if whole else min(params.dry_penalty_last_n, self._n_ctx)
        shape = (params.dry_multiplier, params.dry_base, params.dry_allowed_length)
        return self._prototype(*shape, last_n, params.dry_sequence_breakers).clone()

    def _make(
        self, multiplier: float, base: float, allowed_length: int, last_n: int, breakers: tuple[str, ...]
    ) -> DryPenalty:
        texts = (ctypes.c_char_p * len(breakers))(*(text.encode(errors="replace") for text in breakers))
        native = llama_cpp.llama_sampler_init_dry(
            self._vocabulary.native, multiplier, base, allowed_length, last_n, texts, len(texts)
        )
        return DryPenalty(native, last_n)
