"""appliance.security.key_store"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.security.api_keys import ApiKey, KeyRecord
from appliance.security.key_store import KeyStore
from appliance.security.secret_files import Generations
from appliance.state_dir import write_atomic

PEPPERS = Generations("pepper", {1: b"a" * 32})


def new_record(principal: str = "demo") -> KeyRecord:
    return KeyRecord.of(ApiKey.generate(), principal, PEPPERS, created=datetime(2026, 1, 1, tzinfo=UTC), label="x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api_keys.json"


def test_a_record_survives_the_file(path: Path) -> None:
    record = new_record()
    KeyStore(path).add(record)
    assert KeyStore.open(path).find(record.kid) == record
    assert KeyStore.open(path).find("unknown") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_open_store_sees_what_another_process_adds(path: Path) -> None:
    first, second, third = new_record(), new_record("bob"), new_record("bob")
    daemon = KeyStore(path)
    daemon.add(first)
    for record in (second, third):
        KeyStore.open(path).add(record)
        assert daemon.find(record.kid) == record
    assert daemon.kids_by_principal() == {"demo": (first.kid,), "bob": (second.kid, third.kid)}


def test_the_older_view_does_not_undo_what_another_process_added(path: Path) -> None:
    first, second, third = new_record(), new_record(), new_record()
    daemon = KeyStore(path)
    daemon.add(first)
    KeyStore.open(path).add(second)
    daemon.add(third)
    assert all(KeyStore.open(path).find(record.kid) for record in (first, second, third))


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 2, "keys": []}', b'{"version": 1}', b"\xff", b"[]"])
def test_a_damaged_file_is_refused_at_the_start_and_ignored_later(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    record = new_record()
    store = KeyStore(path)
    store.add(record)
    write_atomic(path, content)
    with pytest.raises(StateError, match="damaged"):
        KeyStore.open(path)
    for _ in range(3):
        assert store.find(record.kid) == record
    assert len(caplog.records) == 1
    assert "API keys stay as they were" in caplog.text


def test_a_file_that_goes_missing_or_loose_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = new_record()
    store = KeyStore(path)
    store.add(record)
    good = path.read_bytes()
    path.unlink()
    assert store.find(record.kid) == record
    write_atomic(path, good, 0o644)
    assert store.find(record.kid) == record
    assert len(caplog.records) == 2
    write_atomic(path, b'{"version": 1, "keys": []}')
    assert store.find(record.kid) is None


def test_one_key_id_twice_is_damage(path: Path) -> None:
    KeyStore(path).add(new_record())
    data = json.loads(path.read_text())
    data["keys"] *= 2
    write_atomic(path, json.dumps(data).encode())
    with pytest.raises(StateError, match="twice"):
        KeyStore.open(path)


def test_the_file_holds_no_secret(path: Path) -> None:
    key = ApiKey.generate()
    KeyStore(path).add(KeyRecord.of(key, "demo", PEPPERS, created=datetime.now(UTC)))
    assert key.kid in path.read_text()
    assert key.secret not in path.read_text()
