"""How far one answer has come in its grammar."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from appliance.errors import RequestError

# A grammar that once makes the others wait this long is not let go on; llguidance's own limits allow more.
_SECONDS_MAX: Final = 0.5


class Matcher:
    """Made by the compiling thread, then belongs to the engine thread.

    What it cannot go on with is in `failure`, for good: the caller asks after every `fill` and `accept`. complete: the
    answer is whole and nothing can follow. param: the request's field, which a failure names. reads_json: the answer
    is JSON. thoughts: a text that begins with the first of these may go up to the second before the answer.
    """

    def __init__(
        self,
        native: LLMatcher,
        param: str,
        *,
        reads_json: bool = False,
        thoughts: tuple[bytes, bytes] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.complete = False
        self.failure: RequestError | None = None
        self._native = native
        self._param = param
        self._reads_json = reads_json
        self._thoughts = thoughts
        self._text = bytearray()
        self._clock = clock

    def fill(self, words: NDArray[np.uint32]) -> None:
        """Writes which tokens may come next: bit n % 32 of word n // 32. Others may hold the GIL meanwhile."""
        began = self._clock()
        self._native.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check(began)

    def accept(self, token: int, piece: bytes, *, is_end: bool) -> None:
        """The token is part of the answer, or its end."""
        began = self._clock()
        self._native.consume_token(token)
        self._check(began)
        if self.failure is not None:
            return
        self._text += piece
        self.complete = is_end or (self._native.is_stopped() and self._native.is_accepting())
        if self.complete:
            self._verify()

    def refuse(self, message: str) -> None:
        """The answer cannot go on."""
        self.failure = self.failure or RequestError("invalid_request", f"{self._param}: {message}", param=self._param)

    def _check(self, began: float) -> None:
        if self._native.is_error():
            reason = self._native.get_error().splitlines()[0][:200]
            self.refuse(f"the answer could not be kept to it ({reason}); simplify it")
        elif self._clock() - began > _SECONDS_MAX:
            self.refuse("it takes too long to follow; simplify it")

    def _verify(self) -> None:
        """A second opinion: the grammar has accepted every token of the text, and JSON is also read."""
        if not self._reads_json:
            return
        answer = self._text
        if self._thoughts is not None and answer.startswith(self._thoughts[0]):
            _, _, answer = answer.partition(self._thoughts[1])
        try:
            json.loads(answer, object_pairs_hook=_without_twins)
        except (ValueError, RecursionError):
            self.failure = RequestError(
                "internal_error", "the answer is no JSON although its grammar accepted it; try again"
            )
        except _TwinsError as twins:
            self.failure = RequestError(
                "internal_error", f"the model repeated the name {twins.name!r} in an object; try again"
            )


class _TwinsError(Exception):
    def __init__(self, name: str) -> None:
        self.name = name[:64]


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two members of one name count once for a reader and twice for a grammar that counts."""
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise _TwinsError(name)
        read[name] = value
    return read
