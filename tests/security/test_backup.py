"""A backup brought back on another host: credentials work, what it says is true, nothing opens it but its key."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from appliance.access_config import KeyEncryption
from appliance.admin_client import AdminError
from appliance.audit.keys import VerificationKey
from appliance.audit.verify import verify
from appliance.clock import utc_now
from appliance.config import Config
from appliance.errors import StateError
from appliance.keyring.recovery import RecoverySecretKey, generate_recovery_key
from appliance.offline import offline_admin
from appliance.security.bundle_folder import write_bundle
from appliance.security.identity import Peer
from appliance.security.opening import open_security
from appliance.state_backup import restore_state
from appliance.state_dir import StateDir
from appliance.telemetry.request_reader import RequestReader
from tests.unit.telemetry.making import record, write

SECRET, PUBLIC = generate_recovery_key()


async def backed_up(folder: Path) -> tuple[Path, Mapping[str, str], str]:
    """(archive, the bundle of client `dify`, the audit log's verification key) of an appliance with some history."""
    state, archive = StateDir(folder / "old"), folder / "archive"
    async with offline_admin(state, Config(), folder, {}, create=True) as admin:
        files = (await admin.post("/clients", {"name": "dify"}))["files"]
        await admin.post("/peppers/rotate")
        await admin.post("/data-keys/credentials/rotate")
        k0 = (await admin.post("/audit/take-key"))["verification_key"]
        write(state.store, record(1), record(2))
        (state.store / "requests.db.damaged").write_bytes(b"damage")
        (state.store / "recorder.db").write_bytes(b"what was seen")
        await admin.post("/backup", {"target": str(archive), "recovery_public": PUBLIC})
    return archive, files, k0


@pytest.mark.slow
async def test_it_opens_on_a_host_with_another_key_encryption_key(tmp_path: Path) -> None:
    archive, files, k0 = await backed_up(tmp_path)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)
    settings = KeyEncryption(source="passphrase", passphrase_file=str(passphrase))
    restored = StateDir(tmp_path / "new")
    assert restore_state(archive, RecoverySecretKey.parse(SECRET), restored.path, settings, {}) > 5
    assert not list(restored.secrets.glob("kek.*"))
    config = Config(key_encryption=settings)
    with restored.lock():
        security = open_security(restored, config, tmp_path, {}, create=False)
        peer = Peer(IPv4Address("127.0.0.1"), ssl.PEM_cert_to_DER_cert(files["client.crt"]), "api", utc_now())
        access = security.office.access
        assert access.authenticate(peer, [f"Bearer {files['api.key'].strip()}"]).id == "dify"
        security.close()
    assert RequestReader.of_folder(restored.store).find(["r2"]) == record(2)
    assert not list(restored.store.glob("*.damaged*")) and not list((tmp_path / "old" / "store").glob(".*"))
    report = verify(restored.audit, k0=VerificationKey.decode(k0.encode()))
    assert report.result == "incomplete", report
    assert report.macs == report.records > 10


async def test_nothing_opens_with_another_recovery_key(tmp_path: Path) -> None:
    archive, _, _ = await backed_up(tmp_path)
    other, _ = generate_recovery_key()
    with pytest.raises(StateError):
        restore_state(archive, RecoverySecretKey.parse(other), tmp_path / "new", KeyEncryption(), {})
    assert not (tmp_path / "new").exists()


async def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    archive, _, _ = await backed_up(tmp_path)
    before = archive.read_bytes()
    state = StateDir(tmp_path / "old")
    async with offline_admin(state, Config(), tmp_path, {}, create=False) as admin:
        with pytest.raises(AdminError) as refused:
            await admin.post("/backup", {"target": str(archive), "recovery_public": PUBLIC})
        assert "exists" in str(refused.value)
        with pytest.raises(AdminError, match="whole path"):
            await admin.post("/backup", {"target": "relative", "recovery_public": PUBLIC})
        with pytest.raises(AdminError, match="recovery"):
            await admin.post("/backup", {"target": str(tmp_path / "b"), "recovery_public": SECRET})
    assert archive.read_bytes() == before


def test_a_bundle_folder_appears_whole_and_keeps_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "clients" / "dify"
    write_bundle(folder, {"client.crt": b"1", "api.key": b"2"})
    write_bundle(folder, {"client.crt": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"client.crt": b"3", "api.key": b"2"}
    assert (folder / "api.key").stat().st_mode & 0o777 == 0o600
