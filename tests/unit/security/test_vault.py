"""appliance.security.vault"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.security.clients import issue_bundle
from appliance.security.vault import Vault, utc_now
from appliance.state_dir import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


def test_it_is_founded_until_the_first_client_exists(state: StateDir) -> None:
    first = Vault.open(state, utc_now, create=True)
    second = Vault.open(state, utc_now, create=True)
    assert first.created
    assert second.created, "a start that was cut short is begun again"
    assert first.pki.appliance_id == second.pki.appliance_id
    issue_bundle(state, second, "demo", utc_now)
    assert not Vault.open(state, utc_now, create=True).created


def test_without_create_nothing_is_founded(state: StateDir) -> None:
    with pytest.raises(StateError, match="no keys yet; start the appliance once"):
        Vault.open(state, utc_now, create=False)
    assert not any(state.secrets.iterdir())
    assert not any(state.pki.iterdir())


@pytest.mark.parametrize(
    "name", ["secrets/kek.1", "secrets/pepper.1", "pki/appliance-id", "pki/server-ca.pem", "pki/client-ca.pem"]
)
def test_a_founded_vault_makes_up_nothing_that_is_lost(state: StateDir, name: str) -> None:
    issue_bundle(state, Vault.open(state, utc_now, create=True), "demo", utc_now)
    (state.path / name).unlink()
    with pytest.raises(StateError, match="is missing; restore"):
        Vault.open(state, utc_now, create=True)
