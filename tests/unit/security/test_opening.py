"""appliance.security.opening: a first start, the next ones, and what must not be taken for a first start."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.access_config import KeyEncryption, Listener
from appliance.audit.errors import AuditUnavailable
from appliance.audit.journal import newest_seal_key_id
from appliance.audit.keys import SealKey
from appliance.audit.read import RecordFilter, tail
from appliance.audit.record import Actor
from appliance.config import Config
from appliance.errors import ConfigError, StateError
from appliance.security.credentials import Credentials
from appliance.security.opening import Security, open_security
from appliance.security.revocations import revoke
from appliance.security.seal_key_changes import add_seal_key
from appliance.state_dir import StateDir
from tests.unit.keyring.conftest import write_secret
from tests.unit.security.making import NOW, client_of

ANNA = Actor(principal="anna")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


def opened(state: StateDir, config: Config | None = None, *, create: bool = True) -> Security:
    return open_security(state, config or Config(), state.path, {}, create=create, now=lambda: NOW)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def actions(security: Security, state: StateDir) -> list[str]:
    """What the audit log holds, newest last; the log is closed."""
    found = tail(state.audit, security.keyring.cipher("audit"), RecordFilter(), 100)
    return [record.action for record in reversed(found)]


async def test_a_first_start_serves_the_demo_client(state: StateDir) -> None:
    security = opened(state)
    demo = client_of("demo", files(state.clients / "demo"))
    principal = security.office.access.authenticate(demo.peer(), [demo.bearer])
    assert (principal.id, security.office.document.generation) == ("demo", 1)
    security.close()
    for path in state.secrets.iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert demo.key.secret.encode() not in b"".join(files(state.secrets).values())


async def test_the_next_start_finds_what_was(state: StateDir) -> None:
    security = opened(state)
    demo = client_of("demo", files(state.clients / "demo"))
    security.office.access.authenticate(demo.peer(), [demo.bearer])
    await security.office.change(
        ANNA,
        "client.revoke",
        "bob",
        lambda document, now: (revoke(document, "principal", "bob", now, by="", reason=""), 0),
    )
    document = security.office.document
    security.close()
    again = opened(state, create=False)
    assert again.office.document == document
    assert again.office.access.view.revocations.principals == {"bob"}
    assert again.office.seen.key(demo.key.kid) == NOW
    again.close()
    assert [action for action in actions(again, state) if action == "client.revoke"] == ["client.revoke"] * 2


def test_nothing_is_made_where_nothing_was_asked_for(state: StateDir) -> None:
    with pytest.raises(StateError, match="has no keys yet; start the appliance once"):
        opened(state, create=False)
    assert list(state.secrets.iterdir()) == list(state.clients.iterdir()) == []


def test_a_wrong_configuration_is_found_before_anything_is_made(state: StateDir) -> None:
    with pytest.raises(ConfigError):
        opened(state, Config(listeners={"api": Listener(mode="key")}))
    assert list(state.secrets.iterdir()) == []
    with pytest.raises(ConfigError):
        opened(state, Config(listeners={"api": Listener(allow=("junk",))}))
    assert list(state.clients.iterdir()) == []
    opened(state).close()


def test_a_first_start_that_was_cut_short_is_made_anew(state: StateDir) -> None:
    opened(state).close()
    stale = files(state.clients / "demo")
    for path in (state.secrets / "credentials", *state.audit.iterdir(), *state.store.iterdir()):
        path.unlink()
    security = opened(state)
    fresh = files(state.clients / "demo")
    assert fresh.keys() == stale.keys()
    assert not set(fresh.values()) & set(stale.values())
    security.close()


@pytest.mark.parametrize("left", ["store", "audit"])
def test_credentials_that_are_missing_although_it_has_served_are_damage(state: StateDir, left: str) -> None:
    opened(state).close()
    (state.store / "requests.db").write_text("{}\n")
    (state.secrets / "credentials").unlink()
    emptied = state.store if left == "audit" else state.audit
    shutil.rmtree(emptied)
    emptied.mkdir(mode=0o700)
    secrets = files(state.secrets)
    with pytest.raises(StateError, match="is missing although this appliance has served before; restore it"):
        opened(state)
    assert files(state.secrets) == secrets


def test_the_state_of_an_earlier_version_is_named(state: StateDir) -> None:
    (state.secrets / "api_keys.json").write_text("{}")
    for create in (True, False):
        with pytest.raises(StateError, match=r"made by an earlier version"):
            opened(state, create=create)


@pytest.mark.parametrize("lost", ["keyring.json", "kek"])
def test_credentials_without_their_keys_are_damage(state: StateDir, lost: str) -> None:
    opened(state).close()
    for path in state.secrets.glob(f"{lost}*"):
        path.unlink()
    with pytest.raises(StateError):
        opened(state)
    assert (state.secrets / "credentials").exists()


def test_the_key_of_another_source_is_not_taken(state: StateDir) -> None:
    opened(state).close()
    with pytest.raises((StateError, ConfigError)):
        opened(state, Config(key_encryption=KeyEncryption(source="credential")))


# The seal key: the document first, then the log.


async def rotate(security: Security, state: StateDir, fresh: SealKey, *, cut_short: bool = False) -> None:
    """As the admin API does; cut short, the log never hears of it."""

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        return add_seal_key(document, in_use(state), fresh), None

    await security.office.change(ANNA, "seal_key.rotate", fresh.key_id, transition)
    if not cut_short:
        await security.office.audit.replace_seal_key(fresh)


def in_use(state: StateDir) -> str | None:
    return newest_seal_key_id(state.audit)


async def test_a_seal_key_is_rotated(state: StateDir) -> None:
    security, fresh = opened(state), SealKey.generate()
    await rotate(security, state, fresh)
    security.close()
    assert in_use(state) == fresh.key_id
    again = opened(state)
    assert SealKey.from_bytes(again.office.document.seal_keys[-1]).key_id == fresh.key_id
    again.close()
    assert "seal_key.rotate" in actions(again, state)


async def test_a_rotation_that_was_cut_short_is_taken_back_and_can_be_made(state: StateDir) -> None:
    security = opened(state)
    before = in_use(state)
    await rotate(security, state, SealKey.generate(), cut_short=True)
    assert len(security.office.document.seal_keys) == 2
    security.close()
    again = opened(state)
    assert [SealKey.from_bytes(key).key_id for key in again.office.document.seal_keys] == [before] == [in_use(state)]
    assert again.office.access.view.document == again.office.document
    fresh = SealKey.generate()
    await rotate(again, state, fresh)
    again.close()
    assert in_use(state) == fresh.key_id
    opened(state).close()


async def test_rotations_cut_short_in_a_row_leave_an_appliance_that_starts(state: StateDir) -> None:
    """Also where the log refuses a new key again and again while the daemon runs."""
    security = opened(state)
    before = in_use(state)
    for _ in range(3):
        await rotate(security, state, SealKey.generate(), cut_short=True)
    security.close()
    again = opened(state)
    assert in_use(state) == before
    again.close()


async def test_a_log_that_needs_a_key_that_is_not_here_is_not_begun_anew(state: StateDir) -> None:
    security = opened(state)
    await security.office.change(
        ANNA,
        "x.y",
        "seal key",
        lambda document, now: (replace(document, seal_keys=(SealKey.generate().private_bytes,)), None),
    )
    security.close()
    with pytest.raises(StateError, match="restore the seal key"):
        opened(state)


async def test_after_closing_nothing_is_changed_any_more(state: StateDir) -> None:
    security = opened(state)
    security.close()
    security.close()
    with pytest.raises(AuditUnavailable):
        await rotate(security, state, SealKey.generate())
    assert security.office.document.generation == 1


def test_another_kek_source_than_wraps_the_keys_is_named_and_no_state_is_given_up(state: StateDir) -> None:
    """Also where `--config` was forgotten: then the default, a file, is asked for, and it may be destroyed already."""
    opened(state).close()
    passphrase = write_secret(state.path / "passphrase", b"correct horse battery\n")
    config = Config(key_encryption=KeyEncryption(source="passphrase", passphrase_file=str(passphrase)))
    before = files(state.secrets)
    with pytest.raises(StateError, match=r"wrapped by file:kek\.1:.*is `passphrase`") as refused:
        opened(state, config)
    for advice in ("back to `file`", "appliance reload", "appliance secrets rekey", "--config"):
        assert advice in str(refused.value)
    assert "move" not in str(refused.value)
    assert files(state.secrets) == before


def test_a_lost_kek_file_is_to_be_put_back_and_the_state_not_to_be_moved_away(state: StateDir) -> None:
    opened(state).close()
    (state.secrets / "kek.1").unlink()
    with pytest.raises(StateError, match=r"kek\.1 is missing; put it back, or restore a backup") as refused:
        opened(state)
    assert "move" not in str(refused.value)
