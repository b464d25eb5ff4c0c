"""A request for vectors or scores inside the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from appliance.types import Timings, Usage


@dataclass(frozen=True, slots=True)
class PoolingInput:
    """One text to be computed whole. truncated: it was longer."""

    tokens: list[int]
    truncated: bool = False


@dataclass(slots=True, eq=False)
class PoolingJob:
    """All state of one request. Made by the io thread, then owned by the engine thread.

    number: the daemon's name for the request; grows with arrival. inputs: at least one, none empty. principal, flow,
    weight, priority: whose turn it is. cache_domain: who may share known vectors with it. dimensions: the first so many
    numbers of each vector; None for all. planned: inputs that were computed, or are in the step under way. done: those
    whose vectors are out. cached: tokens of those that were known already. Times are in seconds of the engine's clock.
    """

    number: int
    inputs: tuple[PoolingInput, ...]
    arrived: float
    principal: str = ""
    flow: str = ""
    weight: float = 1.0
    priority: int = 0
    cache_domain: str = ""
    dimensions: int | None = None
    deadline: float = math.inf
    started: float | None = None
    planned: int = 0
    done: int = 0
    cached: int = 0

    @property
    def tokens(self) -> int:
        """Of all inputs."""
        return sum(len(each.tokens) for each in self.inputs)

    @property
    def usage(self) -> Usage:
        """Once it is done."""
        return Usage(prompt_tokens=self.tokens, completion_tokens=0, cached_tokens=self.cached)

    def timings(self, now: float) -> Timings:
        """Once it is done."""
        assert self.started is not None
        return Timings(
            queue_seconds=self.started - self.arrived, prefill_seconds=now - self.started, decode_seconds=0.0
        )
