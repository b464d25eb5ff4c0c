"""The engine thread: one step after the other while there is work, asleep while there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from typing import Protocol, assert_never

from appliance.engine.advance import Advance
from appliance.engine.plan import Done, NoRoom, Outcome, Plan, ReuseLost
from appliance.engine.scheduler import Scheduler
from appliance.engine.sequence import Sequence
from appliance.engine.step_loop import StepGuard, StepLoop
from appliance.wire import Event, Failed, Finished, Step


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


class EngineLoop(StepLoop[Sequence]):
    """Runs the scheduler's plans and sends what comes of them.

    Text and frames of a step are made while the device computes the next one, where it can; else at once, so that the
    daemon works on them while the next step is planned.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        guard: StepGuard,
        send: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(scheduler, guard, send, clock)
        self._runner = runner
        self._scheduler = scheduler

    def _step(self, began: float) -> None:
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
        self._count(outcome.device_seconds if isinstance(outcome, Done) else 0.0, self._clock() - began)
        if not self._runner.overlaps:
            self._flush()

    def _settle(self, plan: Plan, outcome: Outcome) -> Iterable[Event | Advance]:
        match outcome:
            case Done():
                return self._scheduler.commit(
                    plan, outcome.sampled, self._clock(), outcome.device_seconds, outcome.scored
                )
            case NoRoom():
                return self._scheduler.no_room()
            case ReuseLost():
                self._scheduler.reuse_lost(outcome.slots)
                return ()
            case _:
                assert_never(outcome)

    def _figures(self) -> Step:
        scheduler = self._scheduler
        return Step(
            running=scheduler.running,
            waiting=scheduler.waiting,
            kv_cells=scheduler.kv_cells,
            steps=self._steps,
            device_seconds=self._device_seconds,
            host_seconds=self._host_seconds,
            preemptions=scheduler.preemptions,
        )

    def _told(self, events: Items[Event]) -> None:
        for event in events:
            if isinstance(event, Finished | Failed):
                self._runner.close(event.number)

    def _check(self) -> None:
        super()._check()
        self._runner.check_cache(self._scheduler.residents())
