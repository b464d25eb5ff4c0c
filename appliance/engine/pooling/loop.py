"""The engine thread of a model that pools: one step after the other while there is work, asleep while there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from queue import SimpleQueue
from typing import NoReturn, Protocol

import msgspec

from appliance.engine.loop import StepGuard
from appliance.engine.pooling.job import PoolingJob
from appliance.engine.pooling.scheduler import PoolingScheduler
from appliance.engine.pooling.vectors import Vector
from appliance.wire import HEARTBEAT_SECONDS, Abort, Event, Step


class Runner(Protocol):
    """Computes; `appliance.engine.runner.PoolingRunner` is the real one."""

    def compute(self, inputs: Items[list[int]]) -> Items[Vector | None]:
        """The vector or score of each, None for what is no number. Raises when the engine cannot go on."""
        ...


class PoolingLoop:
    """Runs the scheduler's plans and sends what comes of them.

    `run` belongs to the engine thread and never returns; an exception out of it is a bug or a broken device, and the
    process must end. `submit`, `abort`, `busy` and `status` may be used from any thread.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: PoolingScheduler,
        guard: StepGuard,
        send: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._guard = guard
        self._send = send
        self._clock = clock
        self._inbox: SimpleQueue[PoolingJob | Abort] = SimpleQueue()
        self._unsent: list[Event] = []
        self._sent = clock()
        self._steps = 0
        self._device_seconds = 0.0
        self._host_seconds = 0.0
        self.busy = False
        self.status = Step()

    def submit(self, job: PoolingJob) -> None:
        """Hands over a request that can run; it is not the caller's any more."""
        self._inbox.put(job)

    def abort(self, number: int) -> None:
        """Ends a request before the next step, unless it has ended."""
        self._inbox.put(Abort(number=number))

    def run(self) -> NoReturn:
        """Works until the process ends."""
        while True:
            self._drain_inbox()
            began = self._clock()
            plan = self._scheduler.schedule(began)
            self._unsent += plan.events
            # The daemon must know who was in a step before the step can kill the worker.
            self._flush()
            if not plan.items:
                continue
            self._guard.step(plan.tokens)
            launched = self._clock()
            vectors = self._runner.compute([item.tokens for item in plan.items])
            computed = self._clock()
            self._unsent += self._scheduler.commit(plan, vectors, computed)
            self._count(computed - launched, self._clock() - began)
            self._flush()

    def _drain_inbox(self) -> None:
        """Takes all that has arrived; waits when there is nothing to do."""
        while not self._scheduler.has_work:
            self._rest()
            self._take(self._inbox.get())
        while not self._inbox.empty():
            self._take(self._inbox.get())

    def _take(self, message: PoolingJob | Abort) -> None:
        self.busy = True
        if isinstance(message, PoolingJob):
            self._scheduler.add(message)
        elif (failed := self._scheduler.abort(message.number)) is not None:
            self._unsent.append(failed)

    def _flush(self) -> None:
        """Sends what has happened in one frame; an empty one when the last is HEARTBEAT_SECONDS old."""
        self.status = Step(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            steps=self._steps,
            device_seconds=self._device_seconds,
            host_seconds=self._host_seconds,
        )
        now = self._clock()
        if not self._unsent and now - self._sent < HEARTBEAT_SECONDS:
            return
        events, self._unsent = tuple(self._unsent), []
        self._send(msgspec.structs.replace(self.status, events=events))
        self._sent = now

    def _count(self, device: float, seconds: float) -> None:
        self._steps += 1
        self._device_seconds += device
        self._host_seconds += max(0.0, seconds - device)

    def _rest(self) -> None:
        """Nothing to do: a good moment to see whether the books are right."""
        self._guard.rest()
        self._flush()
        self._scheduler.check_integrity()
        self.busy = False
