"""A device that always takes the same time: what is left of a step is the host's."""

from __future__ import annotations

import time

from appliance.engine.advance import Sampled
from appliance.engine.limits import Limits
from appliance.engine.plan import Done, Outcome, Plan

_PIECES = (b" the", b" model", b" answers", b",", b" and", b" so", b" on", b"\n")


class SimulatedDevice:
    """Stands in for the engine's Runner: every step takes `step_seconds`, whatever is in it, and draws some word.

    Like a GPU it computes by itself between `launch` and `collect`.
    """

    overlaps = True

    def __init__(self, n_slots: int, n_ctx: int, step_seconds: float) -> None:
        self.limits = Limits(
            parallel=n_slots,
            n_slots=n_slots,
            n_cells=n_slots * n_ctx,
            n_ctx=n_ctx,
            n_batch=2048,
            n_ubatch=512,
        )
        self._step_seconds = step_seconds
        self._drawn = 0
        self._launched = 0.0

    def launch(self, plan: Plan) -> None:
        """The step begins."""
        self.begin()

    def begin(self) -> None:
        """The device starts to compute."""
        self._launched = time.perf_counter()

    def collect(self, plan: Plan) -> Outcome:
        """Waits for the step's end, then gives each item that wants one a token."""
        self.compute()
        device_seconds = time.perf_counter() - self._launched
        return Done(tuple(self._draw() for item in plan.items if item.sample), device_seconds)

    def compute(self) -> None:
        """What is left of the device's part of a step."""
        time.sleep(max(0.0, self._launched + self._step_seconds - time.perf_counter()))

    def close(self, number: int) -> None:
        """There is none."""

    def check_cache(self, residents: list[int]) -> None:
        """Holds nothing."""

    def _draw(self) -> Sampled:
        self._drawn += 1
        token = self._drawn % len(_PIECES)
        return Sampled(token, _PIECES[token], False)
