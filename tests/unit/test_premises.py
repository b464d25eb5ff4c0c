"""appliance.premises"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.access_config import Admin, Audit
from appliance.alert_config import Alerts
from appliance.alerting.message import Sender
from appliance.alerting.watch import AlertWatch
from appliance.alias_spec import ModelsFile
from appliance.audit.read import RecordFilter, tail
from appliance.audit.record import APPLIANCE
from appliance.capture.prompt_capture import PromptCapture
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.front_door import FrontDoor
from appliance.keyring.passphrase_kek import FILE_NAME, PassphraseKek, ScryptCost
from appliance.model_trial import model_keeper
from appliance.models.launcher import SpawnLauncher
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.premises import RunningPremises, restart_needed
from appliance.security.disk_guard import DiskGuard
from appliance.security.opening import open_security
from appliance.state_dir import StateDir
from tests.admin.conftest import founded, state
from tests.unit.alerting.delivery.conftest import told
from tests.unit.keyring.conftest import write_secret
from tests.waiting import until

__all__ = ["founded", "state"]


@pytest.mark.parametrize(
    ("audit", "needed"),
    [
        ({}, []),
        # The next pruning, within the hour, asks for these two.
        ({"retention_days": 7, "legal_hold": True}, []),
        ({"anchor": "/mnt/anchor", "retention_days": 7}, ["audit.anchor"]),
    ],
)
def test_of_the_audit_log_what_prunes_counts_at_once(audit: dict[str, Any], needed: list[str]) -> None:
    assert restart_needed(Config(), Config(audit=Audit(**audit))) == needed


def test_of_administration_the_socket_counts_after_a_restart() -> None:
    before, after = Config(), Config(admin=Admin(socket="/run/other.sock", two_persons=("key.revoke",)))
    assert restart_needed(before, after) == ["admin.socket"]


@pytest.fixture
def premises(state: StateDir, tmp_path: Path) -> Iterator[RunningPremises]:
    """Of a daemon whose appliance.yaml is in `tmp_path`."""
    config = Config()
    security = open_security(state, config, state.path, {}, create=False)
    capture = PromptCapture(state.capture, security.keyring.cipher("capture"), security.office.now)
    yield RunningPremises(
        security.office,
        security.keyring,
        Router(ModelsFile(), config.requests, Means(SpawnLauncher())),
        FrontDoor(security.office, {}),
        state,
        DiskGuard(state.path, config.audit),
        capture,
        tmp_path / "appliance.yaml",
        lambda config: config,
        {},
        lambda: ModelsFile(),
        model_keeper(state, security.office, SpawnLauncher()),
    )
    capture.close()
    security.close()


def says_to_rekey(premises: RunningPremises) -> bool:
    return any("secrets rekey" in reason for reason in premises.status()["degraded"])  # type: ignore[attr-defined]


async def test_until_the_keys_are_wrapped_anew_another_key_encryption_key_degrades(
    premises: RunningPremises, state: StateDir, tmp_path: Path
) -> None:
    yaml, passphrase = tmp_path / "appliance.yaml", write_secret(tmp_path / "passphrase", b"correct horse battery\n")
    # Cheap to derive.
    write_secret(state.secrets / FILE_NAME, msgspec.json.encode(ScryptCost(salt=b"s" * 32, n=2**14)))
    named = f"key_encryption: {{source: passphrase, passphrase_file: {passphrase}}}\n"
    for text, differs in ((named, True), (named, True), ("", False), (named, True)):
        yaml.write_text(text)
        answer = await premises.reload(APPLIANCE, force=False)
        assert answer["restart_needed"] == []
        assert ("a restart before that fails" in str(answer["notes"])) == differs
        assert says_to_rekey(premises) == differs
    keyring = premises._keyring
    keyring.rekey(PassphraseKek.open(state.secrets, "correct horse battery", create=False))
    assert not says_to_rekey(premises)
    write_secret(passphrase, b"another horse battery\n")
    yaml.write_text(named.replace("passphrase}", "passphrase, credential: x}"))
    await premises.reload(APPLIANCE, force=False)
    assert says_to_rekey(premises)


async def test_a_forced_reload_is_on_record(premises: RunningPremises, tmp_path: Path) -> None:
    (tmp_path / "appliance.yaml").write_text("")
    for force in (False, True):
        await premises.reload(APPLIANCE, force=force)
    found = tail(premises._state.audit, premises._keyring.cipher("audit"), RecordFilter(action="config.reload"), 10)
    assert [dict(record.details) for record in reversed(found)] == [
        {},
        {"cut": 0},
        {"force": "true"},
        {"force": "true", "cut": 0},
    ]


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0o600, "needs key_encryption.passphrase_file"),
        (b"", 0o600, "must hold one line"),
        (b"short\n", 0o600, "needs at least 12"),
        (b"correct horse battery\n", 0o644, "other users may have read it"),
    ],
)
async def test_a_key_encryption_key_that_could_not_be_used_is_not_taken_over(
    premises: RunningPremises, state: StateDir, tmp_path: Path, text: bytes | None, mode: int, says: str
) -> None:
    given = ""
    if text is not None:
        path = write_secret(tmp_path / "passphrase", text)
        path.chmod(mode)
        given = f", passphrase_file: {path}"
    (tmp_path / "appliance.yaml").write_text(f"key_encryption: {{source: passphrase{given}}}\n")
    before = sorted(state.secrets.iterdir())
    with pytest.raises(ApplianceError, match=says):
        await premises.reload(APPLIANCE, force=False)
    assert premises._office.config == Config()
    assert sorted(state.secrets.iterdir()) == before
    assert not says_to_rekey(premises)


async def test_receivers_of_alerts_count_with_a_reload_and_wrong_ones_refuse_it(
    premises: RunningPremises, state: StateDir, tmp_path: Path
) -> None:
    watch = AlertWatch(state.store / "alerts.json", Sender(host="box", version="1"), lambda: 1.0)
    watch.start(Alerts(), ())
    premises._alerts = watch
    (tmp_path / "appliance.yaml").write_text("alerts: {webhooks: [{url: 'https://chat.example/', ca: none.pem}]}\n")
    with pytest.raises(ApplianceError, match=r"none\.pem cannot be read"):
        await premises.reload(APPLIANCE, force=False)
    assert watch.receivers == []
    (tmp_path / "appliance.yaml").write_text("alerts: {webhooks: [{url: 'http://127.0.0.1:1/hook'}]}\n")
    answer = await premises.reload(APPLIANCE, force=False)
    assert (answer["restart_needed"], [one.name for one in watch.receivers]) == ([], ["webhook 127.0.0.1:1/hook"])
    watch._outbox.put((told(),))
    await until(lambda: bool(watch.degraded()))
    assert "alerts do not reach webhook 127.0.0.1:1/hook" in str(premises.status()["degraded"])
    await watch.close()
