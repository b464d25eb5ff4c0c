"""What encrypts, hashes and signs, and the evidence."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.access_config import Audit, KeyEncryption
from appliance.admin_client import AdminClient, route
from appliance.audit.anchor import Checkpoint, append_checkpoint
from appliance.config import Config
from appliance.keyring.recovery import generate_recovery_key
from appliance.security.access_view import AccessView
from appliance.security.opening import open_security
from appliance.state_dir import StateDir
from tests.admin.desk import Desk, refused


async def test_what_there_is_and_none_of_it_is_shown(desk: Desk, admin: AdminClient) -> None:
    found = await admin.get("/secrets")
    assert {key["purpose"] for key in found["data_keys"]} >= {"credentials", "audit"}
    assert found["peppers"] == [{**found["peppers"][0], "id": 1, "newest": True, "keys": 1}]
    said = str(found)
    for secret in (desk.office.document.peppers[0].secret, *desk.office.document.seal_keys):
        assert secret.hex() not in said
        assert repr(secret)[2:-1] not in said


@pytest.mark.parametrize("purpose", ["credentials", "audit", "capture", "responses"])
async def test_a_data_key_is_replaced_and_what_it_sealed_opens_afterwards(
    desk: Desk, admin: AdminClient, state: StateDir, purpose: str
) -> None:
    async def generations() -> list[int]:
        keys = (await admin.get("/secrets"))["data_keys"]
        return [key["generation"] for key in keys if key["purpose"] == purpose]

    before = await generations()
    answer = await admin.post(route("data-keys", purpose, "rotate"))
    assert [key["generation"] for key in answer["data_keys"]] == await generations()
    assert await generations() == [max(before, default=0) + 1], "the older key is dropped at once"
    assert await desk.outcomes("data_key.rotate") == ["allow", "ok"]
    desk.security.close()
    reopened = open_security(state, Config(), state.path, {}, create=False)
    assert reopened.office.document == desk.office.document
    reopened.close()


async def test_a_purpose_that_is_none(admin: AdminClient) -> None:
    error = await refused(admin.post(route("data-keys", "../kek", "rotate")))
    assert error.code == "not_found"
    assert "credentials" in str(error)


async def test_peppers_come_and_go(desk: Desk, admin: AdminClient) -> None:
    assert (await admin.post("/peppers/rotate"))["peppers"] == [1, 2]
    error = await refused(admin.post("/peppers/retire", {"pepper": 1}))
    kid = (await admin.get("/keys"))[0]["kid"]
    assert error.code == "needs_force"
    assert kid in str(error)
    planned = await admin.post("/peppers/retire", {"pepper": 1, "force": True}, plan=True)
    assert planned["revoked"] == [kid]
    assert (await admin.post("/peppers/retire", {"pepper": 1, "force": True}))["revoked"] == [kid]
    assert [one.resource for one in await desk.records() if one.action == "key.revoke"] == [kid]
    assert [key["state"] for key in await admin.get("/keys")] == ["revoked"]
    for pepper, code in ((2, "conflict"), (1, "not_found"), (99, "not_found")):
        assert (await refused(admin.post("/peppers/retire", {"pepper": pepper}))).code == code


async def test_the_key_encryption_key_is_made_anew(desk: Desk, admin: AdminClient, state: StateDir) -> None:
    before = {key["kek"] for key in (await admin.get("/secrets"))["data_keys"]}
    answer = await admin.post("/kek/rekey")
    after = {key["kek"] for key in (await admin.get("/secrets"))["data_keys"]}
    assert answer["source"] == "file"
    assert after == {f"file:{answer['kek']}"}
    assert not after & before
    desk.security.close()
    open_security(state, Config(), state.path, {}, create=False).close()


@pytest.mark.slow
async def test_another_source_of_the_key_encryption_key(state: StateDir, tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple and more")
    passphrase.chmod(0o600)
    config = Config(key_encryption=KeyEncryption(source="passphrase", passphrase_file=str(passphrase)))
    async with Desk.open(state) as desk, desk.client() as admin:
        # As after a reload of a changed appliance.yaml.
        desk.office.access.replace(_with_config(desk, config))
        assert (await admin.post("/kek/rekey"))["source"] == "passphrase"
    open_security(state, config, state.path, {}, create=False).close()


async def test_the_audit_logs_seal_key_is_replaced(desk: Desk, admin: AdminClient, state: StateDir) -> None:
    before = (await admin.get("/secrets"))["seal_key"]
    after = (await admin.post("/seal-key/rotate"))["seal_key"]
    assert (await admin.get("/secrets"))["seal_key"] == after != before
    report = (await admin.post("/audit/verify"))["report"]
    assert report["result"] != "tampered"
    assert report["findings"] == [] or all("unsealed" in finding["reason"] for finding in report["findings"])
    desk.security.close()
    reopened = open_security(state, Config(), state.path, {}, create=False)
    reopened.close()


async def test_a_seal_key_waits_for_a_backup_and_other_changes_do_not(desk: Desk, admin: AdminClient) -> None:
    """Restored with the records of before and the list of keys of after, the log would look forged."""
    async with asyncio.TaskGroup() as group:
        async with desk.office.long_work:
            waiting = group.create_task(admin.post("/seal-key/rotate"))
            await asyncio.sleep(0.02)
            await admin.post("/peppers/rotate")
            assert await desk.outcomes("seal_key.rotate") == []
        assert (await waiting)["seal_key"]
    assert await desk.outcomes("seal_key.rotate") == ["allow", "ok"]


# Evidence.


async def test_the_head_moves_with_every_record(admin: AdminClient) -> None:
    first = await admin.get("/audit/head")
    await admin.post("/keys", {"principal": "demo"})
    second = await admin.get("/audit/head")
    assert second["head"]["seq"] > first["head"]["seq"]
    assert second["head"]["hash"] != first["head"]["hash"]
    assert (second["degraded"], second["counters"]["lost"]) == ([], 0)


async def test_records_tell_who_did_what(desk: Desk, admin: AdminClient) -> None:
    made = await admin.post("/keys", {"principal": "demo", "label": "x"})
    await desk.records()
    asked, done = reversed(await admin.get("/audit/records", action="key.create", count=2))
    assert (asked["outcome"], done["outcome"]) == ("allow", "ok")
    assert done["resource"] == made["kid"]
    assert done["actor"]["uid"] == 0 or done["actor"]["principal"]
    assert made["key"] not in str(await admin.get("/audit/export"))
    for query in ({"count": "x"}, {"count": "9" * 5000}, {"count": 10_001}, {"outcome": "maybe"}, {"since": "today"}):
        assert (await refused(admin.get("/audit/records", **query))).code == "invalid"


async def test_the_verification_key_is_handed_over_once(desk: Desk, admin: AdminClient) -> None:
    first = await admin.post("/audit/take-key", idempotency_key="once")
    assert await admin.post("/audit/take-key", idempotency_key="once") == first, "an answer that was lost"
    assert not desk.office.audit.verification_key_is_here
    error = await refused(admin.post("/audit/take-key"))
    assert error.code == "conflict"
    assert "taken" in str(error)
    answer = await admin.post("/audit/verify", {"verification_key": first["verification_key"]})
    assert answer["report"]["macs"] > 0
    assert answer["exit_code"] in (0, 2)
    assert (await refused(admin.post("/audit/verify", {"verification_key": "hello"}))).code != "failed"


async def test_what_ended_before_a_time_is_not_verified_again(desk: Desk, admin: AdminClient) -> None:
    await admin.post("/seal-key/rotate")
    whole = (await admin.post("/audit/verify"))["report"]
    later = (desk.office.now() + timedelta(hours=1)).isoformat()
    newest = (await admin.post("/audit/verify", {"since": later}))["report"]
    assert newest["records"] < whole["records"]
    assert any("ended before --since" in note for note in newest["notes"])
    error = await refused(admin.post("/audit/verify", {"since": "2026-11-25T18:00:00"}))
    assert (error.code, str(error).startswith("since: ")) == ("invalid", True)


async def test_an_anchor_that_is_away_is_not_passed_over(state: StateDir, tmp_path: Path) -> None:
    """Without it nobody can tell whether the log was put back to an earlier state."""
    anchor = tmp_path / "stick" / "anchor"
    config = Config(audit=Audit(anchor=str(anchor)))
    async with Desk.open(state, config) as desk, desk.client() as admin:
        error = await refused(admin.post("/audit/verify"))
        assert error.code == "state_error"
        assert str(anchor) in str(error)


async def test_the_anchor_is_that_which_the_log_was_opened_with(state: StateDir, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    async with Desk.open(state, Config(audit=Audit(anchor=str(anchor)))) as desk, desk.client() as admin:
        append_checkpoint(anchor, Checkpoint(10**6, "00" * 32, "2026-11-25T12:00:00.000000Z"))
        # As after a reload of an appliance.yaml without it, which counts after a restart.
        desk.office.access.replace(_with_config(desk, Config()))
        answer = await admin.post("/audit/verify")
        assert answer["exit_code"] == 1
        assert "the anchor knows record 1000000" in answer["report"]["findings"][0]["reason"]


async def test_a_backup_is_one_encrypted_file(desk: Desk, admin: AdminClient, tmp_path: Path) -> None:
    _, public = generate_recovery_key()
    target = tmp_path / "appliance.backup"
    body = {"target": str(target), "recovery_public": str(public)}
    await admin.post("/backup", body, plan=True)
    assert not target.exists()
    answer = await admin.post("/backup", body)
    assert target.stat().st_size == answer["bytes"]
    for wrong in (
        {"target": str(target)},
        {"target": "relative.backup"},
        {"target": str(tmp_path / "missing" / "x")},
        {"target": str(tmp_path / "new"), "recovery_public": "hello"},
    ):
        error = await refused(admin.post("/backup", {**body, **wrong}))
        assert error.code != "failed", (wrong, str(error))


def _with_config(desk: Desk, config: Config) -> AccessView:
    view = desk.office.access.view
    return dataclasses.replace(view, configured=dataclasses.replace(view.configured, config=config))
