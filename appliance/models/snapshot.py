"""What an observer sees of a model, whoever serves it."""

from __future__ import annotations

import enum

from msgspec import Struct

from appliance.types import ModelInfo


class InstanceState(enum.Enum):
    """Where a model is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class InstanceSnapshot(Struct, frozen=True, kw_only=True):
    """What an observer sees; taking it wakes nobody. progress: 0 to 1 while STARTING.

    idle_seconds: since the last request ended. expires_seconds: until it is unloaded for want of use, None: it is not.
    steps, device_seconds, host_seconds, preemptions: of the present worker, as in `wire.Step`.
    silent_seconds: how long its worker has owed an answer without a word.
    n_ctx: most tokens of one request, where another server serves the model and says so; of a worker `info` has it.
    """

    state: InstanceState
    info: ModelInfo | None
    progress: float
    outstanding: int
    running: int
    waiting: int
    kv_cells: int
    steps: int
    device_seconds: float
    host_seconds: float
    preemptions: int
    restarts: int
    pid: int | None
    reason: str | None
    pinned: bool = False
    idle_seconds: float = 0.0
    expires_seconds: float | None = None
    silent_seconds: float = 0.0
    n_ctx: int | None = None
