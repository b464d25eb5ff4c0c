"""What the engine threads of all models share: an inbox, one step after the other while there is work, frames out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, NoReturn, Protocol, TypeVar

import msgspec

from appliance.engine.advance import Advance
from appliance.wire import HEARTBEAT_SECONDS, Abort, Event, Failed, Step

Work = TypeVar("Work")
Work_contra = TypeVar("Work_contra", contravariant=True)


class StepGuard(Protocol):
    """Ends the process when a step takes too long."""

    def step(self, tokens: int) -> None:
        """A step of that many tokens begins."""
        ...

    def rest(self) -> None:
        """No step follows until the next `step`."""
        ...


class WorkScheduler(Protocol[Work_contra]):
    """What a loop must know of its scheduler."""

    @property
    def has_work(self) -> bool:
        """Whether a step is due."""
        ...

    def add(self, work: Work_contra, /) -> None:
        """Takes a request."""
        ...

    def abort(self, number: int, /) -> Failed | None:
        """Ends a request; its end, unless that comes with the step under way or has come."""
        ...

    def check_integrity(self) -> None:
        """Raises AssertionError where the books are wrong."""
        ...


class StepLoop(ABC, Generic[Work]):
    """Has its scheduler's plans carried out, by `_step` of whoever inherits it.

    `run` belongs to the engine thread and never returns; an exception out of it is a bug or a broken device, and the
    process must end. `submit`, `abort`, `busy` and `status` may be used from any thread.
    """

    def __init__(
        self,
        scheduler: WorkScheduler[Work],
        guard: StepGuard,
        send: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = scheduler
        self._guard = guard
        self._send = send
        self._clock = clock
        self._inbox: SimpleQueue[Work | Abort] = SimpleQueue()
        self._unsent: list[Event | Advance] = []
        self._sent = clock()
        self._steps = 0
        self._device_seconds = 0.0
        self._host_seconds = 0.0
        self.busy = False
        self.status = Step()

    def submit(self, work: Work) -> None:
        """Hands over a request that can run; it is not the caller's any more."""
        self._inbox.put(work)

    def abort(self, number: int) -> None:
        """Ends a request before the next step, unless it has ended."""
        self._inbox.put(Abort(number=number))

    def run(self) -> NoReturn:
        """Works until the process ends."""
        while True:
            self._drain_inbox()
            self._step(self._clock())

    @abstractmethod
    def _step(self, began: float) -> None:
        """Plans and computes one step, and sends what comes of it."""

    @abstractmethod
    def _figures(self) -> Step:
        """What is going on, without events."""

    def _told(self, events: Sequence[Event]) -> None:
        """These are about to be sent."""

    def _drain_inbox(self) -> None:
        """Takes all that has arrived; waits when there is nothing to do."""
        while not self._work.has_work:
            self._rest()
            self._take(self._inbox.get())
        while not self._inbox.empty():
            self._take(self._inbox.get())

    def _take(self, message: Work | Abort) -> None:
        self.busy = True
        if not isinstance(message, Abort):
            self._work.add(message)
        elif (failed := self._work.abort(message.number)) is not None:
            self._unsent.append(failed)

    def _flush(self) -> None:
        """Sends what has happened in one frame; an empty one when the last is HEARTBEAT_SECONDS old."""
        self.status = self._figures()
        now = self._clock()
        if not self._unsent and now - self._sent < HEARTBEAT_SECONDS:
            return
        events: list[Event] = []
        for each in self._unsent:
            events += each.events() if isinstance(each, Advance) else (each,)
        self._unsent.clear()
        self._told(events)
        self._send(msgspec.structs.replace(self.status, events=tuple(events)))
        self._sent = now

    def _count(self, device: float, seconds: float) -> None:
        """Adds a step to the measured shares of device and host."""
        self._steps += 1
        self._device_seconds += device
        self._host_seconds += max(0.0, seconds - device)

    def _rest(self) -> None:
        """Nothing to do: a good moment to see whether the books are right."""
        self._guard.rest()
        self._flush()
        self._check()
        self.busy = False

    def _check(self) -> None:
        """Raises AssertionError where the books are wrong."""
        self._work.check_integrity()
