"""appliance.security.clients"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.errors import ConfigError, StateError
from appliance.security.api_keys import ApiKey
from appliance.security.authority import AccessControl
from appliance.security.clients import add_client, list_clients
from appliance.security.key_store import KeyStore
from appliance.state_dir import StateDir

FILES = {"client.crt", "client.key", "ca.crt", "api.key"}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    AccessControl.open(state, Config())
    return state


def test_a_bundle_is_complete_and_private(state: StateDir) -> None:
    bundle = add_client(state, "dify-1")
    assert bundle.path == state.clients / "dify-1"
    assert {path.name for path in bundle.path.iterdir()} == FILES
    assert {path.stat().st_mode & 0o777 for path in bundle.path.iterdir()} == {0o600}
    assert bundle.path.stat().st_mode & 0o777 == 0o700
    key = ApiKey.parse((bundle.path / "api.key").read_text().strip())
    assert key is not None
    record = KeyStore.open(state.secrets / "api_keys.json").find(key.kid)
    assert record is not None
    assert record.principal == "dify-1"


def test_clients_are_listed(state: StateDir) -> None:
    add_client(state, "bob")
    shutil.rmtree(state.clients / "demo")
    bob, demo = list_clients(state)
    assert (bob.name, demo.name) == ("bob", "demo")
    assert bob.not_after is not None
    assert demo.not_after is None
    assert len(bob.key_ids) == len(demo.key_ids) == 1


@pytest.mark.parametrize("name", ["", "-a", "Bob", "a b", "../x", "a/b", "a.b", "ü", "a" * 64, "a\n", "."])
def test_a_bad_name_is_refused(state: StateDir, name: str) -> None:
    with pytest.raises(ConfigError, match="is no client name"):
        add_client(state, name)


def test_a_name_is_given_once_also_after_its_bundle_left(state: StateDir) -> None:
    for _ in range(2):
        with pytest.raises(StateError, match="'demo' exists"):
            add_client(state, "demo")
        shutil.rmtree(state.clients / "demo", ignore_errors=True)


def test_what_an_interrupted_add_left_is_replaced(state: StateDir) -> None:
    (state.clients / "bob").mkdir()
    (state.clients / "bob" / "api.key").write_text("never valid")
    bundle = add_client(state, "bob")
    assert {path.name for path in bundle.path.iterdir()} == FILES


def test_it_is_all_or_nothing(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (state.secrets / "api_keys.json").read_bytes()

    def disk_full(*_: object) -> None:
        raise StateError("disk full")

    monkeypatch.setattr(KeyStore, "add", disk_full)
    with pytest.raises(StateError, match="disk full"):
        add_client(state, "bob")
    assert [path.name for path in state.clients.iterdir()] == ["demo"]
    assert (state.secrets / "api_keys.json").read_bytes() == before


def test_without_a_first_start_there_is_nothing_to_add_to(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="does not exist"):
        add_client(StateDir(tmp_path / "typo"), "bob")
    state = StateDir(tmp_path / "state")
    state.prepare()
    with pytest.raises(StateError, match="start the appliance once"):
        add_client(state, "bob")
