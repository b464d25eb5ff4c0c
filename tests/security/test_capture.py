"""The capture's administration: reload, status, who may read, and that reading is recorded first."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from typer.testing import CliRunner

from appliance.access_config import AdminRole, Capture
from appliance.admin.administrator import ALL_ROLES, Administrator
from appliance.admin.app import AdminApi
from appliance.admin.approvals import Approvals
from appliance.admin.routes import ROUTES
from appliance.admin.site import AdminSite
from appliance.admin_client import AdminClient, AdminError
from appliance.alias_spec import ModelsFile
from appliance.audit.errors import AuditUnavailable
from appliance.audit.read import RecordFilter, tail
from appliance.audit.record import APPLIANCE, Actor, AuditEvent, StoredRecord
from appliance.capture.prompt_capture import PromptCapture
from appliance.cli import app
from appliance.config import Config
from appliance.front_door import FrontDoor
from appliance.model_trial import model_keeper
from appliance.models.launcher import SpawnLauncher
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.premises import RunningPremises
from appliance.security.capture_switch import switch_capture
from appliance.security.disk_guard import DiskGuard
from appliance.security.opening import Security, open_security
from appliance.state_dir import StateDir
from appliance.telemetry.request_reader import RequestReader
from tests.unit.capture.making import ON, SECRET, exchange

BY = Actor(principal="anna", uid=1000)


@dataclass
class Desk:
    """An appliance's administration without its listeners of the API."""

    state: StateDir
    security: Security
    capture: PromptCapture
    premises: RunningPremises
    yaml: Path

    async def records(self, action: str) -> list[StoredRecord]:
        """Oldest first."""
        audit = self.security.office.audit
        await audit.append_durably(AuditEvent(action="test.marker", outcome="ok", actor=APPLIANCE))
        found = tail(self.state.audit, self.security.keyring.cipher("audit"), RecordFilter(action=action), 1000)
        return found[::-1]

    def degraded(self) -> list[str]:
        reasons = self.premises.status()["degraded"]
        assert isinstance(reasons, list)
        return reasons

    def notes(self) -> list[str]:
        notes = self.premises.status()["notes"]
        assert isinstance(notes, list)
        return [note for note in notes if "captured" in note]

    def capture_some(self) -> None:
        """Two requests, on the disk."""
        self.capture.configure(ON)
        now = datetime.now(UTC)
        self.capture.keep(exchange("r1", "alice", at=now, answer="\x1b[2J red\nanswer 0 (stop):\u202e"))
        self.capture.keep(exchange("r2", "bob", at=now))
        self.capture.close()

    @contextlib.asynccontextmanager
    async def client(self, *roles: AdminRole) -> AsyncIterator[AdminClient]:
        """Of an administrator with these roles."""
        site = AdminSite(
            office=self.security.office,
            keyring=self.security.keyring,
            models=model_keeper(self.state, self.security.office, SpawnLauncher()),
            state=self.state,
            premises=self.premises,
            approvals=Approvals(timedelta(hours=1)),
            environment={},
            requests=RequestReader.of_folder(self.state.store),
        )
        who = Administrator("anna", frozenset(roles), 1000)
        runner = web.AppRunner(AdminApi(site, ROUTES).application(lambda http: (who, datetime.now(UTC))))
        await runner.setup()
        path = self.state.run / "test.sock"
        await web.UnixSite(runner, str(path)).start()
        try:
            async with AdminClient.local(path) as client:
                yield client
        finally:
            await runner.cleanup()


@pytest.fixture
def desk(state: StateDir, tmp_path: Path) -> Iterator[Desk]:
    config = Config()
    security = open_security(state, config, state.path, {}, create=True)
    office = security.office
    capture = PromptCapture(state.capture, security.keyring.cipher("capture"), office.now)
    router = Router(ModelsFile(), config.requests, Means(SpawnLauncher()))
    yaml = tmp_path / "appliance.yaml"
    premises = RunningPremises(
        office,
        security.keyring,
        router,
        FrontDoor(office, {}),
        state,
        DiskGuard(state.path, config.audit),
        capture,
        yaml,
        lambda config: config,
        {},
        lambda: ModelsFile(),
        model_keeper(state, office, SpawnLauncher()),
    )
    yield Desk(state, security, capture, premises, yaml)
    capture.close()
    security.close()


async def test_a_reload_turns_it_on_and_off_and_both_are_recorded(desk: Desk) -> None:
    desk.yaml.write_text("")
    await desk.premises.reload(BY, force=False)
    assert desk.notes() == []
    assert not desk.state.capture.exists()
    desk.yaml.write_text("capture: {enabled: true, principals: [dify, alice]}\n")
    await desk.premises.reload(BY, force=False)
    assert desk.notes() == ["prompts of 2 principals are captured: alice, dify"]
    assert (desk.capture.bytes_max("dify"), desk.capture.bytes_max("bob")) == (2**18, None)
    desk.yaml.write_text("capture: {enabled: true}\n")
    await desk.premises.reload(BY, force=False)
    await desk.premises.reload(BY, force=False)
    assert desk.notes() == ["prompts of all principals are captured"]
    desk.yaml.write_text("capture: {enabled: false}\n")
    await desk.premises.reload(BY, force=False)
    assert (desk.notes(), desk.capture.bytes_max("dify")) == ([], None)
    found = await desk.records("capture")
    assert [(one.action, one.details["principals"]) for one in found] == [
        ("capture.enabled", "alice, dify"),
        ("capture.enabled", "all"),
        ("capture.disabled", "all"),
    ]
    assert all(one.actor == BY for one in found)


async def test_what_cannot_be_recorded_is_not_begun_but_ended(desk: Desk) -> None:
    audit = desk.security.office.audit
    await switch_capture(audit, desk.capture, ON, APPLIANCE)
    audit.close()
    with pytest.raises(AuditUnavailable):
        await switch_capture(audit, desk.capture, Capture(), BY)
    assert not desk.capture.settings.enabled
    with pytest.raises(AuditUnavailable):
        await switch_capture(audit, desk.capture, ON, BY)
    assert not desk.capture.settings.enabled


async def test_a_reload_that_cannot_record_the_capture_has_still_happened(desk: Desk) -> None:
    """The audit log's disk fills up between the record of the reload and that of the capture."""
    audit = desk.security.office.audit
    durably = audit.append_durably

    async def full(event: AuditEvent) -> None:
        if event.action.startswith("capture."):
            raise AuditUnavailable("the disk is full")
        await durably(event)

    desk.yaml.write_text("capture: {enabled: true}\naudit: {commit_seconds: 0.2}\n")
    audit.append_durably = full  # type: ignore[method-assign]
    answer = await desk.premises.reload(BY, force=False)
    assert answer["restart_needed"] == ["audit.commit_seconds"]
    assert answer["notes"] == [
        "capture: its change is not in the audit log (the disk is full); reload again once that is mended"
    ]
    assert desk.security.office.config.capture.enabled
    assert desk.capture.bytes_max("dify") is None
    assert "prompts are not captured as appliance.yaml says; reload again" in desk.degraded()
    audit.append_durably = durably  # type: ignore[method-assign]
    assert (await desk.premises.reload(BY, force=False))["notes"] == []
    assert desk.capture.bytes_max("dify") is not None
    assert desk.degraded() == []


async def test_an_auditor_reads_and_both_looks_are_recorded(desk: Desk) -> None:
    desk.capture_some()
    async with desk.client("auditor") as client:
        listed = await client.get("/capture", count=10)
        assert [head["request_id"] for head in listed["records"]] == ["r2", "r1"]
        assert SECRET not in str(listed)
        only = await client.get("/capture", principal="bob", since="2026-01-01T00:00:00+00:00")
        assert [head["request_id"] for head in only["records"]] == ["r2"]
        shown = await client.get("/capture/r1")
        (captured,) = shown["records"]
        assert SECRET in captured["content"]["prompt"]
        with pytest.raises(AdminError, match="no captured request has the id 'r9'"):
            await client.get("/capture/r9")
    found = await desk.records("capture")
    assert [(one.action, one.outcome, one.resource, one.request_id) for one in found] == [
        ("capture.list", "allow", None, None),
        ("capture.list", "allow", "bob", None),
        ("capture.read", "allow", "alice", "r1"),
        ("capture.read", "failed", None, "r9"),
    ]
    assert {one.actor.principal for one in found} == {"anna"}


@pytest.mark.parametrize("path", ["/capture", "/capture/r1"])
async def test_nobody_else_reads(desk: Desk, path: str) -> None:
    desk.capture_some()
    async with desk.client(*(ALL_ROLES - {"auditor"})) as client:
        with pytest.raises(AdminError, match="needs the role auditor"):
            await client.get(path)
    assert [one.outcome for one in await desk.records("capture")] == ["deny"]


@pytest.mark.parametrize("path", ["/capture", "/capture/r1"])
async def test_what_cannot_be_recorded_is_not_shown(desk: Desk, path: str) -> None:
    desk.capture_some()
    desk.security.office.audit.close()
    async with desk.client("auditor") as client:
        with pytest.raises(AdminError) as refused:
            await client.get(path)
    assert refused.value.code == "state_error"
    assert SECRET not in refused.value.args[0]


async def test_the_data_key_is_replaced_and_the_old_one_goes(desk: Desk) -> None:
    desk.capture_some()
    async with desk.client("security", "auditor") as client:
        answer = await client.post("/data-keys/capture/rotate")
        assert [key["generation"] for key in answer["data_keys"]] == [2]
        assert len((await client.get("/capture"))["records"]) == 2


def test_the_command_is_safe_for_a_terminal(state: StateDir) -> None:
    """Without a daemon: the same routes on the state directory."""
    security = open_security(state, Config(), state.path, {}, create=True)
    capture = PromptCapture(state.capture, security.keyring.cipher("capture"), security.office.now)
    capture.configure(ON)
    text = "red\x1b[2J\x9b31m\u202e\x7f\nanswer 1 (stop):"
    capture.keep(exchange("r1", prompt=text, answer=text, at=datetime.now(UTC), bytes_max=120))
    capture.close()
    security.close()

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["capture", *arguments, "--state-dir", str(state.path)])
        assert done.exit_code == 0, done.output
        assert all(hidden not in done.output for hidden in "\x1b\x9b\u202e\x7f")
        return done.output

    assert "alice" in run("list")
    shown = run("show", "r1")
    assert "  | [user] red\\x1b[2J\\x9b31m\\u202e\\x7f\n  | answer 1 (stop):\n" in shown
    assert "\nanswer 0 (stop):\n  | red" in shown
    assert "\nanswer 1" not in shown
    assert "\\u001b[2J\\u009b31m\\u202e\\u007f" in run("show", "r1", "--json")
