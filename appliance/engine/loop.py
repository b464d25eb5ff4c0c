"""The engine thread: one step after the other while there is work, asleep while there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import NoReturn, Protocol, assert_never

import msgspec

from appliance.engine.advance import Advance
from appliance.engine.plan import Done, NoRoom, Outcome, Plan, ReuseLost
from appliance.engine.scheduler import Scheduler
from appliance.engine.sequence import Sequence
from appliance.wire import HEARTBEAT_SECONDS, Abort, Event, Failed, Finished, Step


class Runner(Protocol):
    """Carries out plans; `appliance.engine.runner.Runner` is the real one.

    overlaps: the device computes by itself between `launch` and `collect`.
    """

    overlaps: bool

    def launch(self, plan: Plan) -> None:
        """Changes the cache and starts to compute the batch. Raises when the engine cannot go on."""
        ...

    def collect(self, plan: Plan) -> Outcome:
        """Waits for the batch and draws tokens. Raises when the engine cannot go on."""
        ...

    def close(self, number: int) -> None:
        """The request has ended."""
        ...

    def check_cache(self, residents: list[int]) -> None:
        """Raises AssertionError where the cache does not hold that many tokens of each slot."""
        ...


class StepGuard(Protocol):
    """Ends the process when a step takes too long."""

    def step(self, tokens: int) -> None:
        """A step of that many tokens begins."""
        ...

    def rest(self) -> None:
        """No step follows until the next `step`."""
        ...


class EngineLoop:
    """Runs the scheduler's plans and sends what comes of them.

    Text and frames of a step are made while the device computes the next one, where it can; else at once, so that the
    daemon works on them while the next step is planned. `run` belongs to the engine thread and never returns; an
    exception out of it is a bug or a broken device, and the process must end. `submit`, `abort`, `busy` and `status`
    may be used from any thread.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        guard: StepGuard,
        send: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._guard = guard
        self._send = send
        self._clock = clock
        self._inbox: SimpleQueue[Sequence | Abort] = SimpleQueue()
        self._unsent: list[Event | Advance] = []
        self._sent = clock()
        self._steps = 0
        self._device_seconds = 0.0
        self._host_seconds = 0.0
        self.busy = False
        self.status = Step()

    def submit(self, sequence: Sequence) -> None:
        """Hands over a request that can run; it is not the caller's any more."""
        self._inbox.put(sequence)

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
            # Whoever begins, the daemon must know who was in a step before it can kill the worker.
            if plan.events or (self._unsent and not self._runner.overlaps):
                self._flush()
            self._guard.step(plan.tokens)
            self._runner.launch(plan)
            if self._runner.overlaps:
                self._flush()
            outcome = self._runner.collect(plan)
            self._unsent += self._settle(plan, outcome)
            self._count(outcome, self._clock() - began)
            if not self._runner.overlaps:
                self._flush()

    def _drain_inbox(self) -> None:
        """Takes all that has arrived; waits when there is nothing to do."""
        while not self._scheduler.has_work:
            self._rest()
            self._take(self._inbox.get())
        while not self._inbox.empty():
            self._take(self._inbox.get())

    def _take(self, message: Sequence | Abort) -> None:
        self.busy = True
        if isinstance(message, Sequence):
            self._scheduler.add(message)
        elif (failed := self._scheduler.abort(message.number)) is not None:
            self._unsent.append(failed)

    def _settle(self, plan: Plan, outcome: Outcome) -> Iterable[Event | Advance]:
        match outcome:
            case Done():
                return self._scheduler.commit(plan, outcome.sampled, self._clock(), outcome.device_seconds)
            case NoRoom():
                return self._scheduler.no_room()
            case ReuseLost():
                self._scheduler.reuse_lost(outcome.slots)
                return ()
            case _:
                assert_never(outcome)

    def _flush(self) -> None:
        """Sends what has happened in one frame; an empty one when the last is HEARTBEAT_SECONDS old."""
        scheduler = self._scheduler
        self.status = Step(
            running=scheduler.running,
            waiting=scheduler.waiting,
            kv_cells=scheduler.kv_cells,
            steps=self._steps,
            device_seconds=self._device_seconds,
            host_seconds=self._host_seconds,
            preemptions=scheduler.preemptions,
        )
        now = self._clock()
        if not self._unsent and now - self._sent < HEARTBEAT_SECONDS:
            return
        events: list[Event] = []
        for each in self._unsent:
            events += each.events() if isinstance(each, Advance) else (each,)
        self._unsent.clear()
        for event in events:
            if isinstance(event, Finished | Failed):
                self._runner.close(event.number)
        self._send(msgspec.structs.replace(self.status, events=tuple(events)))
        self._sent = now

    def _count(self, outcome: Outcome, seconds: float) -> None:
        """Adds a step to the measured shares of device and host."""
        device = outcome.device_seconds if isinstance(outcome, Done) else 0.0
        self._steps += 1
        self._device_seconds += device
        self._host_seconds += max(0.0, seconds - device)

    def _rest(self) -> None:
        """Nothing to do: a good moment to see whether the books are right."""
        self._guard.rest()
        self._flush()
        self._scheduler.check_integrity()
        self._runner.check_cache(self._scheduler.residents())
        self.busy = False
