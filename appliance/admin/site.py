"""What the admin API administers: the office, and what only a running daemon can do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from appliance.admin.approvals import Approvals
from appliance.alerting.watch import AlertWatch
from appliance.audit.record import Actor
from appliance.doctor.examination import Examine
from appliance.keyring.keyring import Keyring
from appliance.model_store.keeper import ModelKeeper
from appliance.models.models_plan import ModelChange
from appliance.models.rollouts import Rollouts
from appliance.models.router import Router
from appliance.security.denied_addresses import DeniedAddress
from appliance.security.fence import FenceWatch
from appliance.security.office import Office
from appliance.state_dir import StateDir
from appliance.telemetry.event_stream import EventStream
from appliance.telemetry.history import HistoryReader
from appliance.telemetry.log_buffer import LogBuffer
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.request_reader import RequestReader
from appliance.telemetry.snapshot import Snapshot
from appliance.types import ModelInfo
from appliance.upstream_spec import ServedModel


class Premises(Protocol):
    """The daemon, or in its absence a command that works on the state directory alone."""

    async def reload(self, actor: Actor, *, force: bool) -> Mapping[str, object]:
        """Reads appliance.yaml again; all or nothing. Raises ConfigError, StateError or ChangeRefused."""
        ...

    async def apply_models(self, actor: Actor, *, plan: bool) -> Sequence[ModelChange]:
        """Reads models.yaml again and serves what it says, or says what that would change. Raises as `reload`."""
        ...

    def models(self) -> Sequence[tuple[ServedModel, ModelInfo | None]]:
        """Every model, and what its worker found where it is loaded."""
        ...

    def models_in_use(self, folder: Path) -> Sequence[str]:
        """The ids of the models whose file is in this folder and which a worker has loaded, or is about to."""
        ...

    def port(self, listener: str) -> int | None:
        """Where a listener listens; None where it does not."""
        ...

    def denied(self, limit: int) -> Mapping[str, Sequence[DeniedAddress]]:
        """Whom the allowlist has turned away in the last hour, most often first, by listener; at most `limit` each."""
        ...

    def status(self) -> Mapping[str, object]:
        """What is going on, as plain data."""
        ...


@dataclass(frozen=True, slots=True)
class AdminSite:
    """Belongs to the event loop.

    environment: of the process, for the key-encryption key's sources. requests: who asks the request log.
    one_command: it ends with the command that it serves, before a second person could come. router, rollouts,
    log_buffer: None where no daemon runs, as are `snapshot`, which says what there is to be seen of the appliance,
    `metrics`, `events` and `alerts`. examine: what `appliance doctor` is answered with. history: who asks the flight
    recorder. fences: of systemd's units behind the allowlist. reading_all: held while all of the request log is read,
    some seconds for a million: one report at a time leaves threads and cores to others.
    """

    office: Office
    keyring: Keyring
    models: ModelKeeper
    state: StateDir
    premises: Premises
    approvals: Approvals
    environment: Mapping[str, str]
    requests: RequestReader
    one_command: bool = False
    router: Router | None = None
    rollouts: Rollouts | None = None
    log_buffer: LogBuffer | None = None
    examine: Examine | None = None
    snapshot: Callable[[], Snapshot] | None = None
    metrics: Metrics | None = None
    events: EventStream | None = None
    history: HistoryReader | None = None
    alerts: AlertWatch | None = None
    fences: FenceWatch = field(default_factory=lambda: FenceWatch(tuple))
    reading_all: asyncio.Lock = field(default_factory=asyncio.Lock)
