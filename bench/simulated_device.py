"""A device that always takes the same time: what is left of a step is the host's."""

from __future__ import annotations

import time

from appliance.engine.plan import Done, Outcome, Plan, Sampled
from appliance.engine.scheduler import Limits

_PIECES = (b" the", b" model", b" answers", b",", b" and", b" so", b" on", b"\n")


class SimulatedDevice:
    """Stands in for the engine's Runner: every step takes `step_seconds`, whatever is in it, and draws some word."""

    def __init__(self, n_slots: int, n_ctx: int, step_seconds: float) -> None:
        self.limits = Limits(
            n_slots=n_slots, n_cells=n_slots * n_ctx, n_ctx=n_ctx, n_batch=2048, n_ubatch=512, reuse="any"
        )
        self._step_seconds = step_seconds
        self._drawn = 0

    def execute(self, plan: Plan) -> Outcome:
        """Sleeps, then gives each item that wants one a token."""
        self.compute()
        return Done(tuple(self._draw() for item in plan.items if item.sample))

    def compute(self) -> None:
        """The device's part of a step."""
        time.sleep(self._step_seconds)

    def close_sampler(self, number: int) -> None:
        """There is none."""

    def check_cache(self, residents: list[int]) -> None:
        """Holds nothing."""

    def _draw(self) -> Sampled:
        self._drawn += 1
        token = self._drawn % len(_PIECES)
        return Sampled(token, _PIECES[token], False)
