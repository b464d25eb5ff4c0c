"""appliance.security.authority"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from appliance.access_config import Listener
from appliance.config import Config
from appliance.errors import ConfigError, RequestError, StateError
from appliance.security.authority import AccessControl
from appliance.security.clients import add_client
from appliance.security.identity import Peer
from appliance.security.pem_pair import plain_key_pem
from appliance.state_dir import StateDir
from tests.security.forgery import authority

ADDRESS = IPv4Address("10.1.2.3")


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


@pytest.fixture
def access(state: StateDir, clock: Clock) -> Iterator[AccessControl]:
    access = AccessControl.open(state, Config(), clock)
    yield access
    access.close()


def peer_of(state: StateDir, name: str) -> Peer:
    return Peer(ADDRESS, ssl.PEM_cert_to_DER_cert((state.clients / name / "client.crt").read_text()))


def bearer(state: StateDir, name: str) -> list[str]:
    return [f"Bearer {(state.clients / name / 'api.key').read_text().strip()}"]


def test_the_first_start_makes_the_demo_client_and_the_next_does_not(state: StateDir) -> None:
    assert AccessControl.open(state, Config()).created
    key = (state.clients / "demo" / "api.key").read_bytes()
    assert not AccessControl.open(state, Config()).created
    assert (state.clients / "demo" / "api.key").read_bytes() == key


async def test_authenticate(state: StateDir, access: AccessControl) -> None:
    principal = access.authenticate(peer_of(state, "demo"), bearer(state, "demo"))
    assert principal.id == "demo"
    assert principal.kid in bearer(state, "demo")[0]


async def test_a_client_added_meanwhile_is_known_at_once(state: StateDir, access: AccessControl) -> None:
    add_client(state, "bob")
    assert access.authenticate(peer_of(state, "bob"), bearer(state, "bob")).id == "bob"


async def test_refusals_are_logged_with_what_the_client_is_not_told(
    state: StateDir, access: AccessControl, caplog: pytest.LogCaptureFixture
) -> None:
    add_client(state, "bob")
    with pytest.raises(RequestError, match="another client") as caught:
        access.authenticate(peer_of(state, "demo"), bearer(state, "bob"))
    assert caught.value.code == "key_certificate_mismatch"
    assert caplog.messages == [
        f"10.1.2.3 (client demo) sent the API key {bearer(state, 'bob')[0][14:26]} of client bob"
    ]
    with pytest.raises(RequestError, match="certificate is missing"):
        access.authenticate(Peer(ADDRESS, None), bearer(state, "bob"))
    assert caplog.messages[1:] == ["10.1.2.3 was refused: its certificate is missing"]


async def test_a_certificate_that_expires_on_an_open_connection(
    state: StateDir, access: AccessControl, clock: Clock
) -> None:
    peer, authorization = peer_of(state, "demo"), bearer(state, "demo")
    access.authenticate(peer, authorization)
    clock.now += timedelta(days=366)
    with pytest.raises(RequestError, match="expired on") as caught:
        access.authenticate(peer, authorization)
    assert caught.value.code == "certificate_rejected"


@pytest.mark.parametrize(
    ("listener", "message"),
    [
        (Listener(allow=("10.0.0.1/8",)), r"listeners\.api\.allow: '10\.0\.0\.1/8': has host bits set"),
        (Listener(names=("https://x",)), r"listeners\.api\.names: 'https://x' is neither"),
    ],
)
def test_a_bad_configuration_leaves_the_state_alone(state: StateDir, listener: Listener, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AccessControl.open(state, Config(listeners={"api": listener}))
    assert not any(state.secrets.iterdir())


@pytest.mark.parametrize(
    "name", ["secrets/kek.1", "secrets/pepper.1", "secrets/api_keys.json", "pki/server.pem", "pki/client-ca.pem"]
)
def test_loose_modes_are_refused(state: StateDir, access: AccessControl, name: str) -> None:
    (state.path / name).chmod(0o644)
    with pytest.raises(StateError, match="mode 0644"):
        AccessControl.open(state, Config())


def test_the_state_directory_shows_no_key_outside_the_bundles(state: StateDir, access: AccessControl) -> None:
    add_client(state, "bob")
    keys = [(state.clients / name / "api.key").read_text().strip() for name in ("demo", "bob")]
    secrets = [needle for key in keys for needle in (key, key[20:63])]
    secrets += [plain_key_pem(authority(state, role)).decode().splitlines()[1] for role in ("server", "client")]
    for path in state.path.rglob("*"):
        if path.is_file() and state.clients not in path.parents:
            content = path.read_bytes()
            assert b"BEGIN PRIVATE KEY" not in content
            assert not [needle for needle in secrets if needle.encode() in content], path
