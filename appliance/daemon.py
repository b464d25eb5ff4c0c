"""The daemon: the one place where its parts are made and tied together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import uvloop

from appliance import __version__
from appliance.access_config import MAIN_LISTENER
from appliance.admin.app import AdminApi
from appliance.admin.approvals import Approvals
from appliance.admin.handlers.telemetry import without_clients
from appliance.admin.model_signers import read_signers
from appliance.admin.routes import ROUTES
from appliance.admin.site import AdminSite
from appliance.admin.unix_listener import unix_listener
from appliance.alerting.alert_book import FILE as ALERTS
from appliance.alerting.delivery.outbox import receivers
from appliance.alerting.message import Sender
from appliance.alerting.watch import AlertWatch
from appliance.alias_spec import ModelsFile
from appliance.api.app import ApiRunner, api_routes, build_app
from appliance.api.parting import Parting
from appliance.audit.last_action import is_act
from appliance.audit.record import APPLIANCE, Actor, AuditEvent, Outcome
from appliance.audit.siem import SiemForwarder
from appliance.capture.prompt_capture import PromptCapture
from appliance.config import Config, load_config
from appliance.config import Tracing as TracingSettings
from appliance.doctor.examination import Examination
from appliance.errors import ErrorCode, StateError
from appliance.front_door import FrontDoor, bind, bind_all, url_of
from appliance.heartbeat import Heartbeat, Signs
from appliance.model_store.file_hashes import FileHashes
from appliance.model_trial import model_keeper
from appliance.models.hardware import HardwareWatch
from appliance.models.kept import KeptWorkers
from appliance.models.launcher import Launcher, SocketLauncher, SpawnLauncher
from appliance.models.memory_ledger import MemoryLedger
from appliance.models.placer import Placer
from appliance.models.provenance import Provenance
from appliance.models.registry import Means
from appliance.models.rollouts import Rollouts
from appliance.models.router import Router
from appliance.models.spare import SpareLauncher
from appliance.models.version_store import FILE as VERSIONS
from appliance.models.version_store import VersionStore
from appliance.observer import Observer
from appliance.premises import RunningPremises
from appliance.remote_admin import remote_admin
from appliance.responses.store import ResponseStore
from appliance.security.capture_switch import switch_capture
from appliance.security.disk_guard import DiskGuard
from appliance.security.fence import FenceWatch
from appliance.security.limits import PrincipalLimits
from appliance.security.opening import Security, open_security
from appliance.security.quota_store import QuotaStore
from appliance.security.refusal_log import RefusalLog
from appliance.security.replica_files import ReplicaFiles, read_access
from appliance.security.resealing import renew_data_keys
from appliance.security.upkeep import Upkeep
from appliance.state_dir import StateDir, write_atomic
from appliance.systemd import PassedFd, PassedSockets, ServiceManager
from appliance.tasks import TaskOwner
from appliance.telemetry.event_stream import EventStream
from appliance.telemetry.log_buffer import LogBuffer
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.recorder import FlightRecorder
from appliance.telemetry.request_log import RequestLog
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.serving_log import ServingLog
from appliance.telemetry.trace_sinks import FileSink, HttpSink, TraceSink
from appliance.telemetry.tracing import Tracing

QUOTA_SECONDS: Final = 10.0
# What a stop may take besides draining.
STOP_SECONDS_MAX: Final = 60.0
# A worker that owes an answer is ended by its instance; so much later it ought to have been.
SILENCE_GRACE_SECONDS: Final = 30.0
# FileDescriptorName= of sockets that are no listeners of appliance.yaml.
ADMIN_SOCKET: Final = "admin"
REMOTE_SOCKET: Final = "admin-remote"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `appliance serve` was told, parsed and validated.

    read_models: reads them again; raises ConfigError, also where a file is missing.
    path: of appliance.yaml, None where there is none. adjust: what the command line changes in it, also at a reload.
    log_buffer: what the service log's newest lines are in, None where nobody can ask for them. manager, passed: of
    systemd. lines: of workers that it has kept. engine_socket: where workers are had; None: they are subprocesses.
    """

    config: Config
    models: ModelsFile
    read_models: Callable[[], ModelsFile]
    state: StateDir
    path: Path | None = None
    adjust: Callable[[Config], Config] = lambda config: config
    log_buffer: LogBuffer | None = None
    manager: ServiceManager = field(default_factory=lambda: ServiceManager(None))
    passed: PassedSockets = field(default_factory=PassedSockets)
    lines: tuple[PassedFd, ...] = ()
    engine_socket: Path | None = None

    @property
    def folder(self) -> Path:
        """What the files that appliance.yaml names are relative to."""
        return Path.cwd() if self.path is None else self.path.resolve().parent


@dataclass(frozen=True, slots=True)
class Ready:
    """What is true once the daemon serves. url: where a client on this host reaches the API, without `/v1`."""

    url: str
    models: tuple[str, ...]
    clients: Path


def serve(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Runs the daemon until SIGTERM or SIGINT. Calls `announce` when it serves and preloaded models have settled.

    Raises ConfigError or StateError when it cannot start.
    """
    # Nobody reloads before the loop runs, and a hang-up would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings.state.prepare()
    environment = dict(os.environ)
    with settings.state.lock():
        security = open_security(settings.state, settings.config, settings.folder, environment, create=True)
        with contextlib.closing(security), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Daemon(settings, security, environment, announce).run())


class _Daemon:
    """The wired parts of one run."""

    def __init__(
        self, settings: Settings, security: Security, environment: Mapping[str, str], announce: Callable[[Ready], None]
    ) -> None:
        config = settings.config
        self._settings = settings
        self._security = security
        self._office = security.office
        self._environment = environment
        self._announce = announce
        read_signers(config)
        self._receivers = receivers(config.alerts)
        self._alerts = AlertWatch(
            settings.state.store / ALERTS, Sender(host=socket.gethostname(), version=__version__), time.time
        )
        engine = settings.engine_socket
        launcher: Launcher = SpawnLauncher() if engine is None else SocketLauncher(engine)
        self._launcher = launcher
        self._imported = model_keeper(settings.state, self._office, launcher)
        self._fences = FenceWatch.of(settings.state.path)
        self._hardware = HardwareWatch(launcher)
        self._ledger = MemoryLedger(settings.state.store / "memory.json")
        placer = Placer(self._hardware, self._ledger, time.monotonic, quantize_command=self._imported.quantize_command)
        store = self._imported.store
        self._hashes = FileHashes(
            store,
            settings.state.store / "file_hashes.json",
            lambda: self._office.config.models.scrub_mib_per_second,
        )
        provenance = Provenance(VersionStore(settings.state.store / VERSIONS).keep, self._hashes.sha256_of)
        self._spare = SpareLauncher(launcher) if config.worker.spare else None
        self._kept = KeptWorkers(settings.manager, settings.lines, _release())
        means = Means(
            self._spare or launcher,
            config.worker,
            store.check_unchanged,
            placer,
            ReplicaFiles,
            provenance,
            self._kept,
        )
        self._router = Router(settings.models, config.requests, means)
        self._disk = DiskGuard(settings.state.path, config.audit)
        self._capture = PromptCapture(
            settings.state.capture,
            security.keyring.cipher("capture"),
            self._office.now,
            has_room=lambda: self._disk.room == "enough",
        )
        self._responses = ResponseStore(
            settings.state.responses,
            security.keyring.cipher("responses"),
            self._office.now,
            settings=config.responses,
            has_room=lambda: self._disk.room == "enough",
        )
        self._siem = _siem(settings, security)
        self._tracing = _tracing(config.tracing)
        self._limits = PrincipalLimits()
        self._quotas = QuotaStore(settings.state.store / "quotas.json")
        self._request_log = RequestLog(
            settings.state.store,
            retention_days=config.request_log.retention_days,
            bytes_max=config.request_log.bytes_max,
            clock=time.time,
        )
        self._recorder = FlightRecorder(
            settings.state.store, bytes_max=config.telemetry.recorder_bytes_max, clock=time.time
        )
        self._rollouts = Rollouts(
            self._router.registry,
            self._request_log.recent,
            settings.state.store / "rollouts.json",
            time.time,
            self._rolled,
            lambda: self._office.config.requests.request_seconds,
        )
        self._parting = Parting()
        self._tasks = TaskOwner("daemon")

    async def run(self) -> None:
        """Startup, main loop, shutdown."""
        config = self._settings.config
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(_ignore_signals)
            stack.enter_context(contextlib.closing(self._request_log))
            stack.enter_context(contextlib.closing(self._recorder))
            stack.enter_context(contextlib.closing(self._capture))
            stack.enter_context(contextlib.closing(self._responses))
            stack.enter_context(contextlib.closing(self._settings.passed))
            sockets = bind_all(config.listeners, self._settings.passed)
            for listening in sockets.values():
                stack.enter_context(listening)
            self._door = FrontDoor(self._office, sockets, self._disk)
            self._malformed = RefusalLog(_log, self._door.refused)
            self._office.cut = self._door.cut
            stop = _stop_requested(self._hurry)
            runner = await self._startup()
            try:
                await self._administered(stack)
                await self._main_loop(stop, url_of(_main(sockets)))
            finally:
                await self._shutdown(runner)

    async def _startup(self) -> ApiRunner:
        self._premises = RunningPremises(
            self._office,
            self._security.keyring,
            self._router,
            self._door,
            self._settings.state,
            self._disk,
            self._capture,
            self._settings.path,
            self._settings.adjust,
            self._environment,
            self._settings.read_models,
            self._imported,
            self._siem,
            self._rollouts,
            self._responses,
            self._alerts,
            self._settings.manager,
        )
        self._disk.look()
        self._observer = Observer(
            self._office,
            self._router,
            self._hardware,
            self._disk,
            self._door.counters,
            self._premises,
            self._alerts.figures,
        )
        self._metrics = Metrics((route.path for route in api_routes()), lambda: self._observer.latest)
        buffer = self._settings.log_buffer
        logs = None if buffer is None else lambda after: buffer.page(after=after)
        self._events = EventStream(secrets.token_hex(4), bare=without_clients, logs=logs)
        self._observer.sinks += [self._alerts.take, self._metrics.look, self._events.look, self._recorder.look]
        self._observer.sinks.append(ServingLog().look)
        self._office.audit.noticed = self._noticed
        self._restore_quotas()
        upkeep = Upkeep(self._office, self._disk, self._renew_data_keys, self._premises.prune)
        await upkeep.round()
        await switch_capture(self._office.audit, self._capture, self._settings.config.capture, APPLIANCE)
        await asyncio.to_thread(self._capture.prune)
        await asyncio.to_thread(self._responses.prune)
        app = build_app(
            self._router,
            lambda: self._office.config.requests,
            self._limits,
            self._office.now,
            self._door,
            self._keep,
            self._capture,
            responses=self._responses,
            tracing=self._tracing,
            sent=self._metrics.sent,
            parting=self._parting,
        )
        runner = ApiRunner(
            app, keepalive_seconds=self._settings.config.connections.keepalive_seconds, refused=self._door.refused
        )
        await runner.setup()
        await self._door.open(runner)
        self._hardware.start()
        self._router.start()
        self._rollouts.start()
        self._tasks.spawn(upkeep.run(), name="upkeep")
        self._tasks.spawn(self._observer.run(), name="observer")
        beat = Heartbeat(self._settings.manager, self._signs, lambda: self._router.settled)
        self._observer.sinks.append(beat.look)
        self._tasks.spawn(beat.run(), name="heartbeat")
        self._tasks.spawn(self._save_quotas(), name="quotas")
        self._tasks.spawn(self._tracing.run(), name="tracing")
        self._tasks.spawn(self._imported.scrub(), name="scrub")
        if self._siem is not None:
            self._siem.start(self._tasks)
        self._alerts.start(self._settings.config.alerts, self._receivers)
        return runner

    async def _renew_data_keys(self) -> bool:
        return await renew_data_keys(self._office, self._security.keyring, self._settings.state)

    async def _administered(self, stack: contextlib.AsyncExitStack) -> None:
        """Opens the admin API's listeners, and takes SIGHUP for a reload."""
        config, state = self._settings.config.admin, self._settings.state
        site = AdminSite(
            office=self._office,
            keyring=self._security.keyring,
            models=self._imported,
            state=state,
            premises=self._premises,
            approvals=Approvals(timedelta(seconds=config.approval_seconds)),
            environment=self._environment,
            router=self._router,
            rollouts=self._rollouts,
            requests=self._request_log.reader,
            log_buffer=self._settings.log_buffer,
            examine=self._examination(),
            snapshot=lambda: self._observer.latest,
            metrics=self._metrics,
            events=self._events,
            history=self._recorder.reader,
            alerts=self._alerts,
            fences=self._fences,
        )
        api = AdminApi(site, ROUTES)
        path = state.run / "admin.sock" if config.socket is None else Path(config.socket)
        passed = self._settings.passed
        await stack.enter_async_context(unix_listener(api, site, path, passed.take(ADMIN_SOCKET)))
        if config.remote is not None:
            listening = stack.enter_context(passed.take(REMOTE_SOCKET) or bind("admin.remote", config.remote))
            await stack.enter_async_context(remote_admin(api, self._office, self._door, listening))
        passed.refuse_rest((*self._settings.config.listeners, ADMIN_SOCKET, REMOTE_SOCKET))
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: self._tasks.spawn(self._premises.reload_by_signal(), name="reload") and None
        )

    def _examination(self) -> Examination:
        settings = self._settings
        return Examination(
            state=settings.state,
            office=self._office,
            launcher=self._launcher,
            read_config=lambda: settings.adjust(load_config(settings.path)),
            read_models=settings.read_models,
            check_unchanged=self._imported.store.check_unchanged,
            serves=self._premises.port,
            status=self._premises.status,
            watch=self._hardware,
            fences=self._fences,
        )

    async def _main_loop(self, stop: asyncio.Event, url: str) -> None:
        state = self._settings.state
        write_atomic(state.api_url, url.encode())
        _log.info("listening on %s", url)
        self._tasks.spawn(self._announce_when_settled(url), name="announce")
        await stop.wait()
        state.api_url.unlink(missing_ok=True)

    async def _announce_when_settled(self, url: str) -> None:
        await self._router.preloaded()
        if self._spare is not None:
            self._spare.prepare()
        models = tuple(spec.id for spec in self._settings.models.models)
        self._settings.manager.ready()
        self._announce(Ready(url=url, models=models, clients=self._settings.state.clients))

    async def _shutdown(self, runner: ApiRunner) -> None:
        seconds = self._settings.config.shutdown.drain_seconds
        self._settings.manager.stopping()
        self._settings.manager.extend(seconds + STOP_SECONDS_MAX)
        _log.info("stopping; running requests have %.0f s, or until the next signal", seconds)
        self._parting.begin(seconds)
        self._events.close()
        await self._door.close()
        # As long as clients may ask, there is all that answers them.
        await self._parting.wait(runner.connections)
        await self._rollouts.close()
        self._kept.part()
        await self._router.close(self._parting.seconds_left)
        if self._spare is not None:
            await self._spare.close()
        self._hashes.close()
        await runner.cleanup()
        self._malformed.close()
        await self._tasks.close()
        await self._alerts.close()
        await self._imported.close()
        await self._hardware.close()
        try:
            self._quotas.save(self._limits.sums())
        except StateError as error:
            # What is lost is counted since the last time; a stop is no failure for it.
            _log.warning("%s", error)

    def _hurry(self) -> None:
        self._parting.hurry()
        self._router.hurry()

    def _restore_quotas(self) -> None:
        loaded = self._quotas.load(self._office.now())
        self._limits.restore(loaded.sums)
        if loaded.damage is not None:
            _log.error("%s", loaded.damage)
            self._office.audit.append(AuditEvent(action="quotas.damaged", outcome="failed", reason=loaded.damage))

    async def _save_quotas(self) -> None:
        while True:
            await asyncio.sleep(QUOTA_SECONDS)
            await self._ledger.save_aside()
            try:
                await asyncio.to_thread(self._quotas.save, self._limits.sums())
            except StateError as error:
                _log.warning("%s", error)

    def _signs(self) -> Signs:
        silent = max((seen.silent_seconds for seen in self._router.snapshots().values()), default=0.0)
        return Signs(
            recording=self._office.audit.busy_seconds,
            overdue=max(0.0, silent - self._settings.config.worker.silence_seconds_max - SILENCE_GRACE_SECONDS),
        )

    def _noticed(self, event: AuditEvent) -> None:
        """Something goes into the audit log."""
        self._observer.noticed(event)
        if is_act(event):
            self._metrics.acted(event.action, event.outcome)

    def _rolled(self, alias: str, what: str, reason: str) -> None:
        """How a rollout goes on is in the audit log."""
        outcome: Outcome = "failed" if what == "rolled_back" else "ok"
        self._office.audit.append(
            AuditEvent(
                action="model.rollout",
                outcome=outcome,
                actor=APPLIANCE,
                resource=alias,
                reason=reason or None,
                details={"to": what},
            )
        )

    def _keep(self, record: RequestRecord) -> None:
        """Every request is in the request log, and who did it in the audit log.

        Who could not be told was refused, and that is there already, folded where it was a flood.
        """
        self._request_log.add(record)
        self._observer.saw(record)
        self._metrics.saw(record)
        self._events.saw(record)
        if record.mirrored:
            return
        if record.principal is None:
            if record.error_code in _BEFORE_ACCESS:
                self._malformed.record(record.address, record.error_code, "sent a request that is not proper HTTP")
            return
        self._office.audit.append(
            AuditEvent(
                action="api.request",
                outcome=_OUTCOMES[record.outcome],
                actor=Actor(principal=record.principal, credential=record.key_id, address=record.address),
                resource=record.model or record.alias or record.path,
                reason=record.error_code,
                request_id=record.id,
                tokens=(record.prompt_tokens, record.completion_tokens),
                milliseconds=round(record.total_seconds * 1000),
                details={} if record.fallback is None else {"fallback": record.fallback},
            )
        )


# What is refused before it is asked who sent it.
_BEFORE_ACCESS: Final[frozenset[ErrorCode]] = frozenset({"invalid_request", "method_not_allowed"})
_OUTCOMES: Final[Mapping[str, Outcome]] = {"ok": "ok", "client_gone": "ok", "refused": "deny", "failed": "failed"}


def _siem(settings: Settings, security: Security) -> SiemForwarder | None:
    """What copies audit records to a collector. Raises ConfigError."""
    siem = settings.config.audit.siem
    if siem is None:
        return None
    return SiemForwarder(settings.state.audit, siem, security.keyring.cipher("audit"), security.office.audit)


def _tracing(settings: TracingSettings) -> Tracing:
    """Where requests go as traces; trace ids of clients are kept also where that is nowhere. Raises StateError."""
    sink: TraceSink | None = None
    if (collector := settings.collector()) is not None:
        access = read_access(collector)
        sink = HttpSink(collector.base_url, access.context, access.authorization)
    elif settings.file is not None:
        sink = FileSink(Path(settings.file), settings.file_bytes_max)
    return Tracing(
        sink,
        resource={
            "service.name": "llm-appliance",
            "service.version": __version__,
            "host.name": socket.gethostname(),
        },
        ratio=settings.sampled_ratio,
        queue_max=settings.queue_max,
        interval_seconds=settings.interval_seconds,
    )


def _release() -> str:
    """Which build this is: releases lie side by side, and a link that is called `current` leads to one of them."""
    return f"{__version__} {Path(sys.prefix).resolve()}"


def _main(sockets: Mapping[str, socket.socket]) -> socket.socket:
    return sockets.get(MAIN_LISTENER) or next(iter(sockets.values()))


def _ignore_signals() -> None:
    """Nothing is left but to close the audit log; a signal that came now would leave it open."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _stop_requested(hurry: Callable[[], None]) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the next one ends the patience with running requests, by `hurry`."""
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    return stop
