"""Compiles what answers must be, in a thread of its own, so that neither the streams nor other requests wait for it."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, NoReturn, Protocol

from appliance.engine.sequence import Matcher, Sequence
from appliance.errors import RequestError
from appliance.types import Constraint

_LOOK_SECONDS: Final = 0.25


class Compiler(Protocol):
    """See `engine.constraint.Compiler`."""

    @property
    def warm(self) -> bool: ...

    def warm_up(self) -> None: ...

    def compile(self, constraint: Constraint, prompt: list[int]) -> Matcher: ...


class Constraining:
    """`run` belongs to its thread and never returns; `take`, `abort` and `waiting` to the io thread.

    Of each sequence taken exactly one thing becomes: it is submitted, refused, or was aborted. Submitting happens under
    the lock, so that an abort finds it either here or in the engine. submit, refuse: called in the thread of `run`.
    idle: whether the engine has nothing to do, so that `warm_up`, which stops everything, disturbs nobody. Of a large
    model it was called before the model was ready.
    """

    def __init__(
        self,
        compiler: Compiler,
        submit: Callable[[Sequence], None],
        refuse: Callable[[int, RequestError], None],
        idle: Callable[[], bool],
    ) -> None:
        self._compiler = compiler
        self._submit = submit
        self._refuse = refuse
        self._idle = idle
        self._inbox: SimpleQueue[tuple[Sequence, Constraint]] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[int] = set()

    @property
    def waiting(self) -> int:
        """Sequences that are not compiled yet."""
        return len(self._waiting)

    def take(self, sequence: Sequence, constraint: Constraint) -> None:
        """Hands over a request that can run once its constraint is compiled."""
        with self._lock:
            self._waiting.add(sequence.number)
        self._inbox.put((sequence, constraint))

    def abort(self, number: int) -> bool:
        """Whether it was still here; then nothing more becomes of it."""
        with self._lock:
            known = number in self._waiting
            self._waiting.discard(number)
        return known

    def run(self) -> NoReturn:
        """Works until the process ends."""
        while True:
            try:
                self._compile(*self._inbox.get(timeout=None if self._compiler.warm else _LOOK_SECONDS))
            except Empty:
                if self._idle():
                    self._compiler.warm_up()

    def _compile(self, sequence: Sequence, constraint: Constraint) -> None:
        if sequence.number not in self._waiting:
            return
        error: RequestError | None = None
        try:
            sequence.matcher = self._compiler.compile(constraint, sequence.tokens)
        except RequestError as refusal:
            error = refusal
        except Exception as bug:
            # Only this request's: its text may be in the message, so that only the place is logged.
            sys.stderr.write("".join(traceback.format_tb(bug.__traceback__)) + f"{type(bug).__name__}\n")
            error = RequestError(
                "internal_error", "the engine could not read this request; tell the operator, whose log has more"
            )
        with self._lock:
            if sequence.number not in self._waiting:
                return
            self._waiting.discard(sequence.number)
            if error is None:
                self._submit(sequence)
        if error is not None:
            self._refuse(sequence.number, error)
