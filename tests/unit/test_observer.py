"""appliance.observer"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address

import msgspec
import pytest
from msgspec.structs import replace

from appliance.alias_spec import ModelsFile
from appliance.audit.record import APPLIANCE, AuditEvent
from appliance.config import Config
from appliance.models.hardware import HardwareWatch
from appliance.models.launcher import SpawnLauncher
from appliance.models.registry import Means
from appliance.models.residency import Outlook
from appliance.models.router import Router
from appliance.observer import ENDINGS_SECONDS, Observer
from appliance.security.credentials import AllowEntry, AllowState, Credentials
from appliance.security.disk_guard import DiskGuard
from appliance.security.gate import GateCounters
from appliance.security.opening import Security, open_security
from appliance.state_dir import StateDir
from appliance.tasks import TaskOwner
from appliance.telemetry.snapshot import AllowEntryFigures, ListenerFigures, Snapshot
from appliance.types import GpuReading, HardwareReading, HostReading, ModelSpec
from tests.admin.conftest import founded, state
from tests.unit.telemetry.making import record

__all__ = ["founded", "state"]

GATE = GateCounters(
    accepted=9, denied_address=1, denied_rate=2, denied_cap=3, handshake_failed=4, open=5, in_handshake=6
)


class Premises:
    def degraded(self) -> Sequence[str]:
        return ["the disk is full"]

    def notes(self) -> Sequence[str]:
        raise RuntimeError("a note that cannot be read")


class Place:
    """What an observer looks at, and its clocks."""

    def __init__(self, security: Security, state: StateDir) -> None:
        self.office = security.office
        self.now = 1000.0
        spec = ModelSpec(id="m", path="/nowhere/m.gguf", aliases=("a",))
        self.router = Router(ModelsFile(models=(spec,)), Config().requests, Means(SpawnLauncher()))
        self.hardware = HardwareWatch(SpawnLauncher(), clock=lambda: self.now)
        self.disk = DiskGuard(state.path, Config().audit)
        self.observer = Observer(
            self.office,
            self.router,
            self.hardware,
            self.disk,
            lambda: {"api": GATE},
            Premises(),
            wall=lambda: self.now,
            clock=lambda: self.now,
            synchronized=lambda: True,
        )


@pytest.fixture
async def place(state: StateDir) -> Iterator[Place]:  # type: ignore[misc]
    security = open_security(state, Config(), state.path, {}, create=False)
    yield Place(security, state)
    security.close()


async def test_before_anything_is_known_there_is_a_snapshot(place: Place) -> None:
    seen = place.observer.latest
    assert (seen.time, seen.started, seen.ready, seen.gpus, seen.read_age_seconds) == (1000.0, 1000.0, True, (), None)
    assert seen.host.disk_free_bytes is None and seen.host.clock_synchronized is True
    assert [(model.id, model.state, model.aliases) for model in seen.models] == [("m", "stopped", ("a",))]
    assert seen.listeners == (
        ListenerFigures(
            name="api",
            open=5,
            in_handshake=6,
            accepted=9,
            denied_address=1,
            denied_rate=2,
            denied_cap=3,
            handshake_failed=4,
        ),
    )
    assert {one.role for one in seen.certificates} >= {"server", "server_ca", "client_ca", "admin_ca"}
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Snapshot) == seen


async def test_what_cannot_be_read_is_missing_alone(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    seen = place.observer.look()
    assert seen.degraded == ("the disk is full",) and seen.notes == ()
    assert not caplog.records, "it was said when it was seen first"


async def test_requests_hardware_and_acts(place: Place) -> None:
    gpu = GpuReading(uuid="GPU-aa", name="Card", total_bytes=10, used_bytes=4)
    host = HostReading(total_bytes=100, available_bytes=60, cpu_busy=0.5, cpu_count=4)
    place.hardware.latest, place.hardware.read_at = HardwareReading(host=host, gpus=(gpu,)), 1000.5
    place.disk.look()
    place.now = 1002.0
    place.observer.saw(record(1001, model="m", total_seconds=0.5))
    place.observer.saw(record(1001, outcome="refused", status=401, error_code="invalid_api_key"))
    place.observer.noticed(AuditEvent(action="server.renew", outcome="ok", actor=APPLIANCE, resource="server"))
    seen = place.observer.look()
    assert (seen.host.cpu_count, seen.read_age_seconds, seen.gpus[0].used_bytes) == (4, 1.5, 4)
    assert seen.host.disk_free_bytes
    assert (seen.serving.requests, seen.serving.seconds, seen.serving.requests_per_second) == (2, 2.0, 1.0)
    assert seen.models[0].serving is not None and seen.models[0].serving.ok == 1
    assert [fold.error_code for fold in seen.failures] == ["invalid_api_key"]
    assert seen.auth_failures == 1
    assert seen.last_action is not None and seen.last_action.action == "server.renew"


async def test_certificates_are_not_parsed_each_second(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = place.observer.look().certificates
    monkeypatch.setattr("appliance.observer.endings", lambda document, now: pytest.fail("parsed again"))
    place.now += ENDINGS_SECONDS
    assert place.observer.look().certificates is before


async def test_entries_of_the_allowlist_that_end_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.observer.look().allow_ending == ()
    office, now = place.office, place.office.now()
    guest = AllowEntry(network="10.0.0.0/8", until=now + timedelta(hours=1))
    office.seen.note_address("api", ip_address("10.0.0.1"), now)

    def admit(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        return replace(document, allow=AllowState.of((guest,))), None

    await office.change(APPLIANCE, "allow.apply", "allowlist", admit)
    before = place.observer.look().allow_ending
    assert guest.until is not None
    assert before == (AllowEntryFigures(name="10.0.0.0/8", until=guest.until.timestamp(), addresses=1),)
    monkeypatch.setattr("appliance.observer.ending_entries", lambda office: pytest.fail("looked for again"))
    place.now += ENDINGS_SECONDS
    assert place.observer.look().allow_ending is before


async def test_readers_get_each_snapshot_whatever_becomes_of_others(place: Place) -> None:
    got: list[Snapshot] = []
    arrived = asyncio.Event()

    def take(snapshot: Snapshot) -> None:
        got.append(snapshot)
        arrived.set()

    def fail(snapshot: Snapshot) -> None:
        raise RuntimeError("full")

    place.observer.sinks += [fail, take]
    tasks = TaskOwner("test")
    tasks.spawn(place.observer.run(), name="observer")
    await arrived.wait()
    await tasks.close()
    assert got == [place.observer.latest]


async def test_what_a_model_would_take_that_is_not_loaded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def outlook(model: str) -> Outlook:
        asked.append(model)
        return Outlook(need_bytes=11, fits=True)

    monkeypatch.setattr(place.router.registry, "outlook", outlook)
    arrived = asyncio.Event()
    place.observer.sinks.append(lambda seen: arrived.set())
    tasks = TaskOwner("test")
    tasks.spawn(place.observer.run(), name="observer")
    await arrived.wait()
    await tasks.close()
    (model,) = place.observer.look().models
    assert (asked, model.need_bytes, model.fits) == (["m"], 11, True)
