"""The engine thread: one step after the other while there is work, asleep while there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import NoReturn, Protocol, assert_never

import msgspec

from appliance.engine.plan import Done, NoRoom, Outcome, Plan, ReuseLost
from appliance.engine.scheduler import Scheduler
from appliance.engine.sequence import Sequence
from appliance.wire import HEARTBEAT_SECONDS, Abort, Event, Failed, Finished, Step


class Runner(Protocol):
    """Carries out plans; `appliance.engine.runner.Runner` is the real one."""

    def execute(self, plan: Plan) -> Outcome:
        """Cuts the cache, computes the batch, draws tokens. Raises when the engine cannot go on."""
        ...

    def close_sampler(self, number: int) -> None:
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
    """Runs the scheduler's plans and sends what comes of them: one Step a step, at most one more for its admissions.

    `run` belongs to the engine thread and never returns; an exception out of it is a bug or a broken device, and the
    process must end. `submit`, `abort`, `busy` and `status` may be used from any thread.
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
        self._events: list[Event] = []
        self._sent = clock()
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
            plan = self._scheduler.schedule(self._clock())
            if plan.events or self._events:
                self._emit(plan.events)
            self._guard.step(plan.tokens)
            outcome = self._runner.execute(plan)
            self._emit(self._settle(plan, outcome))

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
            self._events.append(failed)

    def _settle(self, plan: Plan, outcome: Outcome) -> list[Event]:
        match outcome:
            case Done():
                return self._scheduler.commit(plan, outcome.sampled, self._clock())
            case NoRoom():
                return self._scheduler.no_room()
            case ReuseLost():
                self._scheduler.reuse_lost(outcome.slots)
                return []
            case _:
                assert_never(outcome)

    def _emit(self, events: Iterable[Event]) -> None:
        """Sends the events in one frame; an empty one when the last is HEARTBEAT_SECONDS old."""
        self._events += events
        scheduler = self._scheduler
        self.status = Step(running=scheduler.running, waiting=scheduler.waiting, kv_cells=scheduler.kv_cells)
        now = self._clock()
        if not self._events and now - self._sent < HEARTBEAT_SECONDS:
            return
        for event in self._events:
            if isinstance(event, Finished | Failed):
                self._runner.close_sampler(event.number)
        self._send(msgspec.structs.replace(self.status, events=tuple(self._events)))
        self._events.clear()
        self._sent = now

    def _rest(self) -> None:
        """Nothing to do: a good moment to see whether the books are right."""
        self._guard.rest()
        self._emit(())
        self._scheduler.check_integrity()
        self._runner.check_cache(self._scheduler.residents())
        self.busy = False
