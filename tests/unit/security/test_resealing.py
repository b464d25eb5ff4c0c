"""appliance.security.resealing"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from appliance.audit.read import tail
from appliance.audit.segments import EPOCH_KEY
from appliance.clock import utc_now
from appliance.config import Config
from appliance.errors import StateError
from appliance.keyring.keyring import PURPOSES, Purpose
from appliance.security.credential_store import CredentialStore
from appliance.security.opening import Security, open_security
from appliance.security.resealing import DATA_KEY_LIFE, renew_data_keys, reseal
from appliance.state_dir import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


def opened(state: StateDir) -> Security:
    return open_security(state, Config(), state.path, {}, create=True)


def generations(security: Security, purpose: Purpose) -> list[int]:
    return [key.generation for key in security.keyring.status() if key.purpose == purpose]


def sealed_anew(security: Security, state: StateDir) -> None:
    reseal(security.keyring, security.office.store, state)


async def test_without_older_keys_nothing_is_written(state: StateDir) -> None:
    security = opened(state)
    before = (state.secrets / "credentials").stat().st_ino
    sealed_anew(security, state)
    assert (state.secrets / "credentials").stat().st_ino == before
    security.close()


async def test_the_document_moves_and_the_older_key_goes(state: StateDir) -> None:
    security = opened(state)
    document = security.office.document
    for _ in range(2):
        security.keyring.rotate("credentials")
    sealed_anew(security, state)
    assert generations(security, "credentials") == [3]
    assert generations(security, "audit") == [1]
    assert (
        CredentialStore.open(state.secrets / "credentials", security.keyring.cipher("credentials")).current == document
    )
    sealed_anew(security, state)
    security.close()
    again = opened(state)
    assert again.office.document == document
    again.close()


async def test_one_that_was_cut_short_is_finished_by_the_next(state: StateDir) -> None:
    security = opened(state)
    security.keyring.rotate("credentials")
    security.office.store.reseal()
    security.close()
    again = opened(state)
    assert generations(again, "credentials") == [1, 2]
    sealed_anew(again, state)
    assert generations(again, "credentials") == [2]
    again.close()
    opened(state).close()


async def test_a_key_stays_where_what_it_sealed_cannot_be_written(state: StateDir) -> None:
    security = opened(state)
    security.keyring.rotate("credentials")
    path = state.secrets / "credentials"
    kept = path.rename(state.path / "kept")
    path.mkdir()
    with pytest.raises(StateError):
        sealed_anew(security, state)
    assert generations(security, "credentials") == [1, 2]
    path.rmdir()
    kept.rename(path)
    security.close()
    opened(state).close()


async def test_the_audit_logs_key_stays_until_its_open_part_has_moved(state: StateDir) -> None:
    security = opened(state)
    security.keyring.rotate("audit")
    sealed_anew(security, state)
    assert generations(security, "audit") == [1, 2], "the MAC key's file is still sealed with the older one"
    await security.office.audit.close_segment()
    assert security.keyring.is_current("audit", (state.audit / EPOCH_KEY).read_bytes())
    sealed_anew(security, state)
    assert generations(security, "audit") == [2]
    security.close()
    opened(state).close()


async def test_purposes_that_sealed_nothing_come_to_rest_too(state: StateDir) -> None:
    security = opened(state)
    for purpose in PURPOSES:
        security.keyring.rotate(purpose)
    sealed_anew(security, state)
    assert [key.purpose for key in security.keyring.status() if not key.newest] == ["audit"]
    security.close()


async def test_an_old_key_is_replaced_and_what_it_sealed_moves(state: StateDir) -> None:
    later = utc_now() + DATA_KEY_LIFE + timedelta(minutes=1)
    opened(state).close()
    security = open_security(state, Config(), state.path, {}, create=True, now=lambda: later)
    assert not await renew_data_keys(security.office, security.keyring, state), "the audit log's open part"
    assert generations(security, "credentials") == [2]
    await security.office.audit.close_segment()
    assert await renew_data_keys(security.office, security.keyring, state)
    security.close()
    found = [record.action for record in tail(state.audit, security.keyring.cipher("audit"))]
    assert {"data_key.rotate", "data_key.reseal"} <= set(found)
