"""Looks at everything and says what it found: in the daemon of itself, in a command where no daemon runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from appliance.alias_spec import ModelsFile
from appliance.clock import clock_synchronized
from appliance.config import Config
from appliance.demo import DEMO_MODEL_PATH
from appliance.doctor import host_probe
from appliance.doctor.allowlist import allowlist_verdicts
from appliance.doctor.certificates import certificate_verdicts
from appliance.doctor.host import (
    clock_verdict,
    cpu_verdict,
    descriptors_needed,
    descriptors_verdict,
    disk_verdict,
    gpu_verdict,
    time_zone_verdict,
)
from appliance.doctor.models import Served, file_verdicts, memory_verdicts
from appliance.doctor.state import configuration_verdict, port_verdict, state_verdict, trouble_verdicts
from appliance.doctor.state_probe import read_ports, read_state
from appliance.doctor.verdict import Verdict, error, fine
from appliance.errors import ApplianceError, ConfigError, GgufError, LoadError, StateError
from appliance.gguf.facts import facts_of
from appliance.model_file import check_model_file
from appliance.models.hardware import HardwareWatch
from appliance.models.inspection import inspect_model
from appliance.models.launcher import Launcher, worker_environment
from appliance.models.placer import read_model
from appliance.security.fence import FenceWatch, Stopped, stopped_by
from appliance.security.office import Office
from appliance.security.replica_files import read_access
from appliance.security.upkeep import ending_entries
from appliance.state_dir import StateDir
from appliance.types import HardwareReading, ModelSpec
from appliance.upstream_spec import ServedModel

READING_SECONDS_MAX: Final = 15.0

T = TypeVar("T")

Examine = Callable[[bool], Awaitable[Sequence[Verdict]]]


@dataclass(frozen=True, slots=True)
class Examination:
    """What there is to look at. Belongs to the event loop.

    read_config, read_models: as at a start; blocking, raise ConfigError. Of models, None where no file
    lists any. check_unchanged: of a model's path; raises LoadError. watch: None where no daemon watches the hardware.
    serves: the port of a listener. fences: of systemd's units. status: as `GET /status` has it.
    """

    state: StateDir
    office: Office
    launcher: Launcher
    read_config: Callable[[], Config]
    read_models: Callable[[], ModelsFile] | None
    check_unchanged: Callable[[Path], None]
    serves: Callable[[str], int | None]
    status: Callable[[], Mapping[str, object]]
    fences: FenceWatch
    watch: HardwareWatch | None = None

    async def __call__(self, full: bool) -> Sequence[Verdict]:
        """Some seconds; full: also starts a worker and has the engine compute a token."""
        reading = await self._reading()
        # What is the event loop's own is read here, the rest in a thread.
        allowlist = allowlist_verdicts(ending_entries(self.office), await self._stopped())
        found = await asyncio.to_thread(self._look, reading, allowlist)
        if full:
            found.append(await self._engine())
        return [*found, *self._service()]

    def _look(self, reading: HardwareReading | None, allowlist: Sequence[Verdict]) -> list[Verdict]:
        office, config = self.office, self.office.config
        view, now = office.access.view, office.now()
        configuration = [_configuration("appliance.yaml", self.read_config)[0]]
        models: list[Served] = []
        if self.read_models is not None:
            verdict, file = _configuration("models.yaml", self.read_models)
            configuration.append(verdict)
            models = [] if file is None else [self._served(one) for one in file.models]
        document, configured = view.document, view.configured
        return [
            *host_verdicts(config, reading, self.state),
            state_verdict_of(self.state),
            *configuration,
            *map(port_verdict, read_ports(config, self.serves)),
            *certificate_verdicts(
                document, configured.names_of(document.server.active), configured.trust.authorities, now
            ),
            *allowlist,
            *file_verdicts(models),
            *memory_verdicts(models, reading),
        ]

    async def _stopped(self) -> list[Stopped]:
        """What the allowlist lets in and the units keep out."""
        now = self.office.now()
        networks = [entry.network for entry in self.office.document.allow.entries if entry.counts(now)]
        networks += [network for listener in self.office.config.listeners.values() for network in listener.allow]
        return stopped_by(await self.fences.fences(), networks)

    async def _reading(self) -> HardwareReading | None:
        """The newest; without a daemon, one of a worker's that is started for it."""
        if self.watch is not None:
            return self.watch.latest
        watch = HardwareWatch(self.launcher)
        watch.start()
        try:
            async with asyncio.timeout(READING_SECONDS_MAX):
                await watch.first.wait()
        except TimeoutError:
            return None
        finally:
            await watch.close()
        return watch.latest

    async def _engine(self) -> Verdict:
        limits, path = self.office.config.worker, DEMO_MODEL_PATH
        try:
            info = await inspect_model(path, self.launcher, limits, size_bytes=path.stat().st_size)
        except (ApplianceError, OSError) as failed:
            return error(
                "engine", f"a worker could not compute a token: {failed}", "the service log has its last words"
            )
        return fine("engine", f"a worker loaded {path.name} and computed a token ({info.engine_build})")

    def _service(self) -> list[Verdict]:
        status = self.status()
        if not status["running"]:
            return []
        degraded, notes = status.get("degraded"), status.get("notes")
        return trouble_verdicts(
            degraded if isinstance(degraded, list) else [], notes if isinstance(notes, list) else []
        )

    def _served(self, spec: ServedModel) -> Served:
        try:
            if not isinstance(spec, ModelSpec):
                for replica in spec.replicas:
                    read_access(replica)
                return Served(id=spec.id, trouble=None)
            check_model_file(spec, Path("models.yaml"))
            self.check_unchanged(Path(spec.path))
            return Served(id=spec.id, trouble=None, spec=spec, facts=facts_of(read_model(Path(spec.path))))
        except (ConfigError, StateError, LoadError, GgufError, OSError) as failed:
            return Served(id=spec.id, trouble=f"{spec.id}: {failed}")


def host_verdicts(config: Config, reading: HardwareReading | None, state: StateDir | None) -> list[Verdict]:
    """Of the machine and of this process. Blocking, for some seconds at most."""
    found = [
        gpu_verdict(host_probe.read_gpus(), reading),
        cpu_verdict(host_probe.read_cpu(), host_probe.read_engine(worker_environment())),
        clock_verdict(clock_synchronized()),
        time_zone_verdict(*host_probe.read_time_zone()),
        descriptors_verdict(host_probe.read_descriptors(), descriptors_needed(config)),
    ]
    if state is not None and (disk := host_probe.read_disk(state.path)) is not None:
        found.append(disk_verdict(disk, config.audit))
    return found


def state_verdict_of(state: StateDir) -> Verdict:
    """Of what is in it. Blocking."""
    entries, cut = read_state(state)
    return state_verdict(entries, os.geteuid(), cut)


def _configuration(what: str, read: Callable[[], T]) -> tuple[Verdict, T | None]:
    """What it holds, where it can be read."""
    try:
        return configuration_verdict(what, None), read()
    except ConfigError as refused:
        return configuration_verdict(what, str(refused)), None
