"""The engine thread of a model that pools: one step after the other while there is work, asleep while there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Protocol

from appliance.engine.pooling.job import PoolingJob
from appliance.engine.pooling.scheduler import PoolingScheduler
from appliance.engine.pooling.vectors import Vector
from appliance.engine.step_loop import StepGuard, StepLoop
from appliance.wire import Step


class Runner(Protocol):
    """Computes; `appliance.engine.runner.PoolingRunner` is the real one."""

    def compute(self, inputs: Items[list[int]]) -> Items[Vector | None]:
        """The vector or score of each, None for what is no number. Raises when the engine cannot go on."""
        ...


class PoolingLoop(StepLoop[PoolingJob]):
    """Runs the scheduler's plans and sends what comes of them."""

    def __init__(
        self,
        runner: Runner,
        scheduler: PoolingScheduler,
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
        # The daemon must know who was in a step before the step can kill the worker.
        self._flush()
        if not plan.items:
            return
        self._guard.step(plan.tokens)
        launched = self._clock()
        vectors = self._runner.compute([item.tokens for item in plan.items])
        computed = self._clock()
        self._unsent += self._scheduler.commit(plan, vectors, computed)
        self._count(computed - launched, self._clock() - began)
        self._flush()

    def _figures(self) -> Step:
        return Step(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            steps=self._steps,
            device_seconds=self._device_seconds,
            host_seconds=self._host_seconds,
        )
