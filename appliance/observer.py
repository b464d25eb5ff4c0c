"""Looks at the whole appliance once a second, and says what it sees as a Snapshot.

It reads what others have measured already: it asks no driver and no worker, and waits for nobody. What cannot be read
is missing in the snapshot, and the rest is there.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from appliance import __version__
from appliance.audit.last_action import LastActions
from appliance.audit.record import AuditEvent
from appliance.clock import clock_synchronized
from appliance.models.hardware import HardwareWatch
from appliance.models.instance import ModelInstance
from appliance.models.model_figures import model_figures
from appliance.models.residency import Outlook
from appliance.models.router import Router
from appliance.models.snapshot import InstanceSnapshot, InstanceState
from appliance.security.change_details import entry_name
from appliance.security.disk_guard import DiskGuard
from appliance.security.endings import ENDINGS_MAX, Endings, endings
from appliance.security.gate import GateCounters
from appliance.security.office import Office
from appliance.security.upkeep import ending_entries
from appliance.telemetry.hardware_figures import gpu_figures, host_figures
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.serving_figures import RecentFailures, ServingWindow
from appliance.telemetry.snapshot import (
    AlertFigures,
    AllowEntryFigures,
    AuditFigures,
    GpuFigures,
    HostFigures,
    ListenerFigures,
    ModelFigures,
    ServingFigures,
    Snapshot,
)
from appliance.types import HardwareReading

INTERVAL_SECONDS: Final = 1.0
# A document that has not changed is looked through again after so long: keys end by themselves.
ENDINGS_SECONDS: Final = 60.0
# What loading a model would take is reckoned so often; where nobody can tell, it is asked again after longer.
OUTLOOK_SECONDS: Final = 10.0
OUTLOOK_PAUSE_SECONDS: Final = 3600.0

T = TypeVar("T")
# Is given every snapshot, on the event loop; must not block.
Sink = Callable[[Snapshot], None]

_log = logging.getLogger(__name__)


class Wellbeing(Protocol):
    """What the premises say of themselves."""

    def degraded(self) -> Sequence[str]:
        """Why the appliance is not well."""
        ...

    def notes(self) -> Sequence[str]:
        """What an administrator should know."""
        ...


class Observer:
    """Belongs to the event loop. latest: the newest snapshot; the first is taken when it is made.

    counters: of the listeners. alerts: by the snapshot before. wall: UTC seconds since 1970. clock: monotonic, that of
    `hardware` too.
    """

    def __init__(
        self,
        office: Office,
        router: Router,
        hardware: HardwareWatch,
        disk: DiskGuard,
        counters: Callable[[], Mapping[str, GateCounters]],
        premises: Wellbeing,
        alerts: Callable[[], tuple[AlertFigures, ...]] = tuple,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        synchronized: Callable[[], bool | None] = clock_synchronized,
    ) -> None:
        self.sinks: list[Sink] = []
        self._office = office
        self._router = router
        self._hardware = hardware
        self._disk = disk
        self._counters = counters
        self._premises = premises
        self._alerts = alerts
        self._wall = wall
        self._clock = clock
        self._synchronized = synchronized
        self._started = wall()
        self._host_name = socket.gethostname()
        self._auth_failures = 0
        self._window = ServingWindow(clock(), office.config.telemetry)
        self._failures = RecentFailures()
        self._actions = LastActions()
        self._outlooks: dict[str, Outlook] = {}
        self._hopeless: dict[str, float] = {}
        self._endings: tuple[int, float, Endings] | None = None
        self._allow_ending: tuple[int, float, tuple[AllowEntryFigures, ...]] | None = None
        self._faults: set[str] = set()
        self.latest = self.look()

    def saw(self, record: RequestRecord) -> None:
        """A request has ended."""
        self._window.add(record, self._clock())
        self._failures.add(record)
        self._auth_failures += record.access_refused

    def noticed(self, event: AuditEvent) -> None:
        """An event goes into the audit log."""
        self._actions.note(event, self._wall())

    async def run(self) -> None:
        """Looks each second, until it is cancelled. What takes longer goes on beside it."""
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self._look_ahead())
            await self._look_on()

    async def _look_on(self) -> None:
        due = self._clock()
        while True:
            self.latest = self.look()
            for sink in self.sinks:
                self._safely("a reader of snapshots", lambda sink=sink: sink(self.latest), None)  # type: ignore[misc]
            due = max(due + INTERVAL_SECONDS, self._clock())
            await asyncio.sleep(due - self._clock())

    async def _look_ahead(self) -> None:
        """What loading those models would take that are not loaded. A file's header is read in a thread."""
        while True:
            for spec in self._router.specs():
                if self._hopeless.get(spec.id, 0.0) > self._clock():
                    continue
                try:
                    found = await self._router.registry.outlook(spec.id)
                except Exception:
                    _log.exception("what model %s would take cannot be said", spec.id)
                    found = None
                if found is not None:
                    self._outlooks[spec.id] = found
                elif self._outlooks.pop(spec.id, None) is None and self._resting(spec.id):
                    self._hopeless[spec.id] = self._clock() + OUTLOOK_PAUSE_SECONDS
            await asyncio.sleep(OUTLOOK_SECONDS)

    def _resting(self, model: str) -> bool:
        seen = self._router.snapshots().get(model)
        return seen is not None and seen.state in _RESTING

    def look(self) -> Snapshot:
        """What there is to be seen now."""
        office, now = self._office, self._clock()
        self._window.objectives = office.config.telemetry
        nothing = (ServingFigures(seconds=0.0), dict[str, ServingFigures]())
        serving, by_model = self._safely("serving", lambda: self._window.figures(now), nothing)
        seen = self._safely("models", self._router.snapshots, dict[str, InstanceSnapshot]())
        reading = self._hardware.latest
        models = self._safely("models", lambda: self._models(seen, by_model, reading), tuple[ModelFigures, ...]())
        ends = self._safely("certificates", self._ends, _NO_ENDINGS)
        return Snapshot(
            time=self._wall(),
            host_name=self._host_name,
            version=__version__,
            started=self._started,
            engine_build=next((one.info.engine_build for one in seen.values() if one.info is not None), None),
            ready=self._safely("ready", lambda: self._router.readiness == "ok", False),
            draining=self._router.draining,
            host=self._safely("host", lambda: self._host(reading), HostFigures()),
            gpus=self._safely("gpus", lambda: _gpus(reading, models, seen), ()),
            gpu_trouble=None if reading is None else reading.gpu_trouble,
            gpus_expected=office.config.telemetry.gpu_expected,
            read_age_seconds=None if reading is None else round(now - self._hardware.read_at, 1),
            models=models,
            serving=serving,
            failures=self._failures.newest(self._wall()),
            listeners=self._safely("listeners", lambda: _listeners(self._counters()), ()),
            certificates=ends.certificates,
            allow_ending=self._safely("allowlist", self._entries_ending, ()),
            keys_active=ends.keys_active,
            keys_ending=ends.keys_ending,
            auth_failures=self._auth_failures,
            audit=self._safely("audit", self._audit, AuditFigures()),
            alerts=self._safely("alerts", self._alerts, ()),
            last_action=self._actions.latest,
            degraded=self._safely("degraded", lambda: tuple(self._premises.degraded()), ()),
            notes=self._safely("notes", lambda: tuple(self._premises.notes()), ()),
        )

    def _models(
        self,
        seen: Mapping[str, InstanceSnapshot],
        by_model: Mapping[str, ServingFigures],
        reading: HardwareReading | None,
    ) -> tuple[ModelFigures, ...]:
        gpus = () if reading is None else tuple(gpu.uuid for gpu in reading.gpus)
        depth = self._office.config.requests.queue_depth_max
        return tuple(
            model_figures(
                model.spec,
                seen[model.spec.id],
                gpus,
                by_model.get(model.spec.id),
                queue_depth_max=depth,
                system_fingerprint=model.origin.system_fingerprint if isinstance(model, ModelInstance) else None,
                failing=self._router.is_failing(model.spec.id),
                outlook=self._outlooks.get(model.spec.id) if seen[model.spec.id].state in _RESTING else None,
            )
            for model in self._router.registry.models()
        )

    def _host(self, reading: HardwareReading | None) -> HostFigures:
        # The guard has looked once it knows how large the disk is.
        known = self._disk.total_bytes > 0
        return host_figures(
            None if reading is None else reading.host,
            disk_free_bytes=self._disk.free_bytes if known else None,
            disk_total_bytes=self._disk.total_bytes if known else None,
            clock=self._safely("clock", self._synchronized, None),
        )

    def _ends(self) -> Endings:
        document, now = self._office.document, self._clock()
        known = self._endings
        if known is None or known[0] != document.generation or now - known[1] > ENDINGS_SECONDS:
            known = self._endings = (document.generation, now, endings(document, self._office.now()))
        return known[2]

    def _entries_ending(self) -> tuple[AllowEntryFigures, ...]:
        document, now = self._office.document, self._clock()
        known = self._allow_ending
        if known is None or known[0] != document.generation or now - known[1] > ENDINGS_SECONDS:
            found = tuple(
                AllowEntryFigures(name=entry_name(one.entry), until=one.until.timestamp(), addresses=len(one.addresses))
                for one in ending_entries(self._office)[:ENDINGS_MAX]
            )
            known = self._allow_ending = (document.generation, now, found)
        return known[2]

    def _audit(self) -> AuditFigures:
        audit = self._office.audit
        counters = audit.counters
        return AuditFigures(
            records=audit.head.seq,
            written=counters.written,
            lost=counters.lost,
            failures=counters.failures,
            trouble=audit.degraded,
        )

    def _safely(self, what: str, read: Callable[[], T], otherwise: T) -> T:
        """`otherwise` where it fails, which is said once until it works again: the other figures are needed then."""
        try:
            found = read()
        except Exception:
            if what not in self._faults:
                self._faults.add(what)
                _log.exception("the snapshots are without %s", what)
            return otherwise
        self._faults.discard(what)
        return found


def _gpus(
    reading: HardwareReading | None, models: Sequence[ModelFigures], seen: Mapping[str, InstanceSnapshot]
) -> tuple[GpuFigures, ...]:
    if reading is None:
        return ()
    held: dict[str, int] = defaultdict(int)
    for model in models:
        for share in model.devices:
            if share.gpu is not None:
                held[share.gpu] += share.bytes
    return gpu_figures(reading, {one.pid for one in seen.values() if one.pid is not None}, held)


def _listeners(counters: Mapping[str, GateCounters]) -> tuple[ListenerFigures, ...]:
    return tuple(
        ListenerFigures(
            name=name,
            open=gate.open,
            in_handshake=gate.in_handshake,
            accepted=gate.accepted,
            denied_address=gate.denied_address,
            denied_rate=gate.denied_rate,
            denied_cap=gate.denied_cap,
            handshake_failed=gate.handshake_failed,
        )
        for name, gate in counters.items()
    )


_RESTING: Final = (InstanceState.STOPPED, InstanceState.FAILED)
_NO_ENDINGS: Final = Endings(certificates=(), keys_active=0, keys_ending=0)
