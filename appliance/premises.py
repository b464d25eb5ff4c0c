"""What the admin API asks of the running daemon as a whole: reload, status, and what was kept long enough."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import asdict, fields

from appliance.admin.app import check_two_persons
from appliance.admin.model_signers import read_signers
from appliance.admin.routes import ROUTES
from appliance.alerting.delivery.outbox import receivers
from appliance.alerting.watch import AlertWatch
from appliance.alias_spec import ModelsFile
from appliance.audit.errors import AuditUnavailable
from appliance.audit.record import APPLIANCE, Actor, AuditEvent, Outcome
from appliance.audit.retention import prune
from appliance.audit.siem import SiemForwarder
from appliance.capture.prompt_capture import PromptCapture
from appliance.config import Config, load_config
from appliance.errors import ApplianceError, ConfigError, StateError
from appliance.front_door import FrontDoor
from appliance.keyring.keyring import Keyring
from appliance.keyring.open_kek import probe_kek
from appliance.model_store.keeper import ModelKeeper
from appliance.models.models_plan import ModelChange
from appliance.models.rollouts import Rollouts
from appliance.models.router import Router
from appliance.models.snapshot import InstanceState
from appliance.responses.store import ResponseStore
from appliance.security.access_view import ConfiguredAccess, all_allowlists
from appliance.security.allow_changes import locked_out, refuse_lock_out
from appliance.security.ca_changes import under_way
from appliance.security.capture_switch import switch_capture
from appliance.security.crl import expired
from appliance.security.denied_addresses import DeniedAddress
from appliance.security.disk_guard import DiskGuard
from appliance.security.office import Office
from appliance.security.upkeep import alarms, ending_entries, own_ends
from appliance.state_dir import StateDir
from appliance.systemd import ServiceManager
from appliance.types import ModelInfo, ModelSpec
from appliance.upstream_spec import ServedModel

# What counts only when the daemon starts: sections of appliance.yaml, but for some fields, and fields of others.
_AT_START: Final = ("connections", "worker", "shutdown", "request_log", "service_log", "tracing", "audit", "telemetry")
_AT_ONCE: Final = frozenset(
    {
        "audit.retention_days",
        "audit.legal_hold",
        "telemetry.slo_ttft_seconds",
        "telemetry.slo_token_seconds",
        "telemetry.gpu_expected",
    }
)
_ADMIN_AT_START: Final = ("socket", "approval_seconds")

_TO_REKEY: Final = (
    "appliance.yaml names another key-encryption key than wraps the data keys; run `appliance secrets rekey`: "
    "a restart before that fails"
)

_log = logging.getLogger(__name__)


class RunningPremises:
    """Belongs to the event loop.

    path: of appliance.yaml, None where there is none. adjust: what the command line changes in it. environment: of the
    process, for the key-encryption key's sources. read_models: reads models.yaml as at the start; blocking, raises
    ConfigError.
    """

    def __init__(
        self,
        office: Office,
        keyring: Keyring,
        router: Router,
        door: FrontDoor,
        state: StateDir,
        disk: DiskGuard,
        capture: PromptCapture,
        path: Path | None,
        adjust: Callable[[Config], Config],
        environment: Mapping[str, str],
        read_models: Callable[[], ModelsFile],
        imported: ModelKeeper,
        siem: SiemForwarder | None = None,
        rollouts: Rollouts | None = None,
        responses: ResponseStore | None = None,
        alerts: AlertWatch | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self._manager = ServiceManager(None) if manager is None else manager
        self._office = office
        self._disk = disk
        self._capture = capture
        self._keyring = keyring
        self._router = router
        self._door = door
        self._state = state
        self._path = path
        self._adjust = adjust
        self._read_models = read_models
        self._imported = imported
        self._siem = siem
        self._rollouts = rollouts
        self._responses = responses
        self._alerts = alerts
        self._environment = environment
        self._rejected: str | None = None
        # The names of the KEKs that wrapped the keys when a reload named another one.
        self._outgoing_keks: frozenset[str] = frozenset()

    async def reload(self, actor: Actor, *, force: bool) -> Mapping[str, object]:
        """Reads and tests everything before anything counts. What cannot change while it runs is named.

        notes: of what did not follow although the configuration counts.
        """
        with self._manager.reloading():
            return await self._reload(actor, force=force)

    async def _reload(self, actor: Actor, *, force: bool) -> Mapping[str, object]:
        forced = {"force": "true"} if force else {}
        try:
            before = self._office.config
            config = self._adjust(load_config(self._path))
            check_two_persons(config.admin.two_persons, ROUTES)
            await asyncio.to_thread(read_signers, config)
            told = await asyncio.to_thread(receivers, config.alerts)
            folder = Path.cwd() if self._path is None else self._path.resolve().parent
            configured = await asyncio.to_thread(ConfiguredAccess.load, config, folder, self._office.now())
            _same_listeners(before, config)
            lists = all_allowlists(config, self._office.document.allow.entries)
            _same_remote(before, config)
            outgoing_keks = await self._outgoing(before, config)
            now = self._office.now()
            shut_out = locked_out(self._office.access.view.allowlists, lists, self._office.seen.addresses(now), now)
            refuse_lock_out(shut_out, force=force)
            cut = await self._office.reconfigure(actor, configured, details=forced)
        except ApplianceError as error:
            self._rejected = str(error)
            _log.error("appliance.yaml was not taken over, the old configuration counts: %s", error)
            self._office.audit.append(
                AuditEvent(action="config.rejected", outcome="failed", actor=actor, reason=str(error), details=forced)
            )
            raise
        self._rejected = None
        self._outgoing_keks = outgoing_keks
        self._router.reconfigure(config.requests)
        if self._responses is not None:
            self._responses.configure(config.responses)
        if self._alerts is not None:
            self._alerts.reconfigure(config.alerts, told)
        notes = [_TO_REKEY] if self._to_rekey() else []
        try:
            await switch_capture(self._office.audit, self._capture, config.capture, actor)
        except AuditUnavailable as error:
            notes.append(f"capture: its change is not in the audit log ({error}); reload again once that is mended")
            _log.error("%s", notes[-1])
        _log.info("appliance.yaml was taken over; %d connections ended", cut)
        return {"cut": cut, "restart_needed": restart_needed(before, config), "notes": notes}

    async def reload_by_signal(self) -> None:
        """SIGHUP: as `reload`; what comes of it is in the log."""
        try:
            await self.reload(APPLIANCE, force=False)
        except ApplianceError:
            return

    async def _outgoing(self, before: Config, after: Config) -> frozenset[str]:
        """The KEKs that wrap the keys and that `after` does not name. Raises where the one it names cannot be used."""
        if before.key_encryption == after.key_encryption and not self._to_rekey():
            return frozenset()
        named = await asyncio.to_thread(probe_kek, after.key_encryption, self._state.secrets, self._environment)
        return frozenset(key.kek for key in self._keyring.status() if not key.kek.startswith(named))

    def _to_rekey(self) -> bool:
        return any(key.kek in self._outgoing_keks for key in self._keyring.status())

    async def apply_models(self, actor: Actor, *, plan: bool) -> Sequence[ModelChange]:
        """Reads models.yaml again, all of it or nothing, and touches only the models that it changes.

        Those whose worker is replaced follow one after the other; the log and the audit log say how each of them ended.
        """
        file = await asyncio.to_thread(self._read_models)
        changes = self._router.registry.plan(file)
        if plan or not changes:
            return changes
        await self._office.audit.append_durably(_applied(actor, "allow", ", ".join(change.model for change in changes)))

        def done(model: str, failure: str | None) -> None:
            self._office.audit.append(_applied(actor, "ok" if failure is None else "failed", model, failure or ""))

        return self._router.registry.apply(file, self._office.config.requests.request_seconds, done)

    async def prune(self) -> None:
        """Removes what the audit log, the capture and the kept responses have kept long enough."""
        await asyncio.to_thread(self._capture.prune)
        if self._responses is not None:
            await asyncio.to_thread(self._responses.prune)
        office, cipher = self._office, self._keyring.cipher("audit")
        # Sealing anew would bring back a segment that it reads while it is removed.
        async with office.long_work:
            try:
                pruned = await prune(office.audit, self._state.audit, office.config.audit, cipher, office.now)
            except OSError as error:
                raise StateError(f"the audit log cannot be pruned: {error.strerror}") from error
        if pruned.refusal is not None:
            _log.warning("the audit log keeps old segments: %s", pruned.refusal)

    def models(self) -> Sequence[tuple[ServedModel, ModelInfo | None]]:
        """As the router has them."""
        snapshots = self._router.snapshots()
        return [(spec, snapshots[spec.id].info) for spec in self._router.specs()]

    def models_in_use(self, folder: Path) -> Sequence[str]:
        """By the states of the moment."""
        resting, real = (InstanceState.STOPPED, InstanceState.FAILED), folder.resolve()
        snapshots = self._router.snapshots()
        return [
            spec.id
            for spec in self._router.specs()
            if isinstance(spec, ModelSpec)
            and snapshots[spec.id].state not in resting
            and Path(spec.path).resolve().parent == real
        ]

    def port(self, listener: str) -> int | None:
        """As the front door has bound it."""
        return self._door.port(listener)

    def denied(self, limit: int) -> Mapping[str, Sequence[DeniedAddress]]:
        """As the gates have counted them."""
        return self._door.denied(limit)

    def status(self) -> Mapping[str, object]:
        """For people and scripts; `degraded` is empty while all is well."""
        office, document = self._office, self._office.document
        gates = {name: dataclasses.asdict(counters) for name, counters in self._door.counters().items()}
        ending = [f"{alarm.what}: {alarm.not_after:%Y-%m-%d %H:%M} UTC" for alarm in alarms(document, office.now())]
        ending += [f"{one.what}: {one.until:%Y-%m-%d %H:%M} UTC" for one in ending_entries(office)]
        return {
            "running": True,
            "generation": document.generation,
            "degraded": self.degraded(),
            "ending_soon": ending,
            "notes": self.notes(),
            "models": {name: snapshot.state.value for name, snapshot in self._router.snapshots().items()},
            "connections": gates,
            "audit": asdict(office.audit.counters),
        }

    def degraded(self) -> list[str]:
        """Why the appliance is not well; empty while it is."""
        reasons = list(self._office.audit.degraded)
        if self._siem is not None and (failure := self._siem.status.failure) is not None:
            reasons.append(f"audit records do not reach the collector: {failure}")
        if self._disk.room == "too_little":
            reasons.append(f"only {self._disk.free_bytes // 2**20} MiB are left on the disk: requests are refused")
        if self._rejected is not None:
            reasons.append(f"the last reload was refused: {self._rejected}")
        if self._to_rekey():
            reasons.append(_TO_REKEY)
        reasons += self._imported.degraded()
        if self._capture.settings != self._office.config.capture:
            reasons.append("prompts are not captured as appliance.yaml says; reload again")
        now = self._office.now()
        reasons += [
            f"the revocation list {crl.number} of authority {crl.issuer_key_id[:16]} has expired; import the next one"
            for crl in self._office.access.view.crls.values()
            if expired(crl, now)
        ]
        reasons += self._router.troubles()
        reasons += [] if self._alerts is None else self._alerts.degraded()
        # A client's own certificate is in ending_soon: the appliance is well without it. This is asked every second.
        reasons += [f"{what} has ended" for what, end in own_ends(self._office.document) if end < now]
        return reasons

    def notes(self) -> list[str]:
        """What an administrator should know, although all is well."""
        notes = list(self._office.access.view.configured.trust.warnings)
        if any(key.kek.startswith("file:") for key in self._keyring.status()):
            notes.append("the key-encryption key lies beside what it protects; see key_encryption in docs/SECURITY.md")
        if self._office.audit.verification_key_is_here:
            notes.append("the audit log's verification key is still here; `appliance audit take-key` takes it away")
        if (trouble := self._office.audit.anchor_trouble) is not None:
            notes.append(trouble)
        notes += under_way(self._office.document)
        notes += self._capture.notes()
        notes += self._imported.notes()
        notes += [] if self._rollouts is None else self._rollouts.notes()
        if self._disk.room == "low":
            notes.append(f"only {self._disk.free_bytes // 2**20} MiB are left on the disk")
        if self._office.document.allow.trial is not None:
            notes.append("a change of the allowlist waits for `appliance allow confirm`")
        return notes


def _applied(actor: Actor, outcome: Outcome, resource: str, reason: str = "") -> AuditEvent:
    return AuditEvent(action="models.apply", outcome=outcome, actor=actor, resource=resource, reason=reason)


def _same_listeners(before: Config, after: Config) -> None:
    """Sockets are bound when the daemon starts. Raises ConfigError."""

    def addresses(config: Config) -> dict[str, tuple[str, int]]:
        return {name: (listener.host, listener.port) for name, listener in config.listeners.items()}

    if addresses(before) != addresses(after):
        raise ConfigError("listeners: names, hosts and ports change only with a restart; nothing was taken over")


def _same_remote(before: Config, after: Config) -> None:
    """The remote admin port's socket too. Raises ConfigError."""

    def address(config: Config) -> tuple[str, int] | None:
        return None if config.admin.remote is None else (config.admin.remote.host, config.admin.remote.port)

    if address(before) != address(after):
        raise ConfigError("admin.remote: host and port change only with a restart; nothing was taken over")


def restart_needed(before: Config, after: Config) -> list[str]:
    """The keys that have changed and count only after a restart."""
    keys = [(section, field.name) for section in _AT_START for field in fields(getattr(before, section))]
    keys += [("admin", field) for field in _ADMIN_AT_START]
    return [
        f"{section}.{field}"
        for section, field in keys
        if f"{section}.{field}" not in _AT_ONCE
        and getattr(getattr(before, section), field) != getattr(getattr(after, section), field)
    ]
