"""appliance.security.authority"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.access_config import Admin, Listener, RemoteAdmin
from appliance.config import Config
from appliance.security.access_view import ADMIN_LISTENER, AccessView
from appliance.security.api_keys import ApiKey, matches
from appliance.security.authority import AccessControl
from appliance.security.client_bundle import issue_certificate
from appliance.security.credentials import AllowEntry, AllowState, Credentials
from appliance.security.entry_hits import EntryHits
from appliance.security.identity import Peer
from appliance.security.key_changes import add_key, add_pepper, move_keys, peppers_of, retire_pepper
from appliance.security.last_seen import LastSeen
from appliance.security.refusal import Refusal
from appliance.security.revocations import revoke
from tests.unit.security.making import (
    DAY,
    HERE,
    NOW,
    PROFILES,
    THIS_HOST,
    Client,
    Clock,
    configured,
    der_of,
    founded,
    with_client,
)

REMOTE = Config(admin=Admin(remote=RemoteAdmin(allow=("10.0.0.0/8",), administrators={"anna": ("security",)})))


class Told:
    """What the audit log would be told."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, str | None, str, int]] = []

    def __call__(self, address: str, code: str, sentence: str, times: int, principal: str | None) -> None:
        self.refusals.append((address, principal, code, times))


def control(
    folder: Path, document: Credentials, config: Config | None = None, told: Told | None = None
) -> AccessControl:
    view = AccessView.build(configured(config), document)
    return AccessControl(view, LastSeen(folder / "last_seen.json"), EntryHits(folder / "hits"), Clock(), told)


@pytest.fixture
def demo() -> tuple[Credentials, Client]:
    return with_client(founded())


async def test_a_request_is_known_and_noted(tmp_path: Path, demo: tuple[Credentials, Client]) -> None:
    document, client = demo
    access = control(tmp_path, document)
    principal = access.authenticate(client.peer(), [client.bearer])
    assert (principal.id, principal.kid) == ("demo", client.key.kid)
    seen = access._seen
    assert seen.key(client.key.kid) == NOW
    (issuer,) = access.view.issuers
    assert seen.principals_of(issuer, NOW - DAY) == ["demo"]
    access.close()


async def test_a_request_counts_for_the_entry_that_lets_it_in(tmp_path: Path, demo: tuple[Credentials, Client]) -> None:
    document, client = demo
    entries = AllowEntry(network="10.0.0.0/8"), AllowEntry(network="10.0.0.0/24", listener="api", until=NOW)
    listeners = {"api": Listener(allow=("127.0.0.1",))}
    access = control(tmp_path, replace(document, allow=AllowState.of(entries)), Config(listeners=listeners))
    access.authenticate(client.peer(address=HERE), [client.bearer])
    access.authenticate(client.peer(), [client.bearer])
    with pytest.raises(Refusal):
        access.authenticate(client.peer(address=HERE), ["Bearer junk"])
    with pytest.raises(Refusal):
        access.authenticate(client.peer(address=ip_address("203.0.113.1")), [client.bearer])
    counted = {name: access.hits.of(name, NOW) for name in access.view.entry_names()}
    assert {name: None if hits is None else (hits.last_day, hits.last) for name, hits in counted.items()} == {
        "10.0.0.0/8 *": (2, NOW),
        "10.0.0.0/24 api": None,
        "127.0.0.1/32 api appliance.yaml": (1, NOW),
    }
    access.close()


async def test_a_refusal_is_told_with_its_exact_reason_and_folded(
    tmp_path: Path, demo: tuple[Credentials, Client], caplog: pytest.LogCaptureFixture
) -> None:
    document, client = demo
    told = Told()
    access = control(tmp_path, document, told=told)
    for _ in range(5):
        with pytest.raises(Refusal, match="Incorrect API key"):
            access.authenticate(client.peer(), [f"Bearer {ApiKey.generate().reveal()}"])
    access.close()
    assert told.refusals == [
        ("127.0.0.1", "demo", "invalid_api_key", 1),
        ("127.0.0.1", "demo", "invalid_api_key", 4),
    ]
    assert "sent the unknown API key" in caplog.messages[0]
    assert access._seen.key(client.key.kid) is None


async def test_a_certificate_that_names_nobody_is_told_of_its_address(tmp_path: Path) -> None:
    told = Told()
    access = control(tmp_path, founded(), told=told)
    with pytest.raises(Refusal, match="cannot be read"):
        access.authenticate(Peer(THIS_HOST, b"junk", "api", NOW), [])
    with pytest.raises(Refusal, match="is missing"):
        access.authenticate(Peer(THIS_HOST, None, "api", NOW), [])
    assert told.refusals == [("127.0.0.1", None, "certificate_rejected", 1)]
    access.close()


async def test_certificates_are_parsed_once(tmp_path: Path, demo: tuple[Credentials, Client]) -> None:
    document, client = demo
    access = control(tmp_path, document)
    for _ in range(3):
        access.authenticate(client.peer(), [client.bearer])
    cache = access._identity.cache_info()
    assert (cache.misses, cache.hits) == (1, 2)
    assert cache.maxsize == 4096


async def test_what_is_remembered_of_a_certificate_outlives_no_revocation(
    tmp_path: Path, demo: tuple[Credentials, Client]
) -> None:
    document, client = demo
    access = control(tmp_path, document)
    access.authenticate(client.peer(), [client.bearer])
    document = revoke(document, "certificate", document.issued[0].reference, NOW, by="anna", reason="")
    access.replace(AccessView.build(configured(), document, access.view))
    with pytest.raises(Refusal, match="is revoked"):
        access.authenticate(client.peer(), [client.bearer])
    access.close()


@pytest.mark.parametrize("form", ["Bearer {}", " bearer  {} ", "\tBEARER {}"])
async def test_a_key_moves_to_the_newest_pepper_when_it_is_used(
    tmp_path: Path, demo: tuple[Credentials, Client], form: str
) -> None:
    document, client = demo
    document = add_pepper(document, b"2" * 32, NOW)
    access = control(tmp_path, document)
    text = client.key.reveal()
    access.authenticate(client.peer(), [form.format(text)])
    assert set(access.to_move) == {client.key.kid}
    moved = move_keys(document, access.to_move)
    assert moved.keys[client.key.kid].pepper == 2
    retired = retire_pepper(moved, 1, NOW, force=False)
    assert matches(client.key, retired.keys[client.key.kid], peppers_of(retired))
    access.replace(AccessView.build(configured(), retired, access.view))
    access.to_move = {}
    access.authenticate(client.peer(), [form.format(text)])
    assert access.to_move == {}, "it has moved"


async def test_a_key_that_waits_to_move_survives_another_rotation(
    tmp_path: Path, demo: tuple[Credentials, Client]
) -> None:
    """What waits was hashed under the pepper that was the newest then, and is stored as that."""
    document, client = demo
    document = add_pepper(document, b"2" * 32, NOW)
    access = control(tmp_path, document)
    access.authenticate(client.peer(), [client.bearer])
    document = add_pepper(document, b"3" * 32, NOW)
    access.replace(AccessView.build(configured(), document, access.view))
    moved = move_keys(document, access.to_move)
    assert matches(client.key, moved.keys[client.key.kid], peppers_of(moved))
    access.authenticate(client.peer(), [client.bearer])
    moved = move_keys(document, access.to_move)
    assert moved.keys[client.key.kid].pepper == 3
    assert matches(client.key, moved.keys[client.key.kid], peppers_of(moved))


async def test_a_wrong_key_does_not_move(tmp_path: Path, demo: tuple[Credentials, Client]) -> None:
    document, client = demo
    access = control(tmp_path, add_pepper(document, b"2" * 32, NOW))
    with pytest.raises(Refusal):
        access.authenticate(client.peer(), [f"Bearer {ApiKey('sk', client.key.kid, '0' * 43).reveal()}"])
    assert access.to_move == {}
    access.close()


async def test_nothing_but_keys_moves(tmp_path: Path, demo: tuple[Credentials, Client]) -> None:
    document, client = demo
    access = control(tmp_path, add_pepper(document, b"2" * 32, NOW), Config(listeners={"api": Listener(mode="cert")}))
    assert access.authenticate(client.peer(), ["Bearer junk"]).credential == "certificate"
    assert access.to_move == {}


async def test_listeners_have_their_own_lists_and_contexts(tmp_path: Path) -> None:
    config = Config(
        listeners={
            "api": Listener(allow=("10.0.0.0/8",)),
            "dify": Listener(mode="key", allow=("192.0.2.1",)),
        }
    )
    access = control(tmp_path, founded(), config)
    assert access.allowlist("api").allows(HERE, NOW)
    assert not access.allowlist("dify").allows(HERE, NOW)
    assert not access.allowlist("no listener").allows(HERE, NOW)
    assert access.server_context("api") is not access.server_context("dify")


# The remote admin port.


def administrator(document: Credentials, name: str = "anna") -> tuple[Credentials, Peer]:
    document, files = issue_certificate(document, PROFILES, "admin", name, NOW)
    return document, Peer(HERE, der_of(files["admin.crt"]), ADMIN_LISTENER, NOW)


async def test_an_administrator_is_known_by_the_certificate(tmp_path: Path) -> None:
    document, peer = administrator(founded())
    told = Told()
    access = control(tmp_path, document, REMOTE, told)
    assert access.administrator(peer).name == "anna"
    document = revoke(document, "certificate", document.issued[-1].reference, NOW, by="bob", reason="")
    access.replace(AccessView.build(configured(REMOTE), document, access.view))
    with pytest.raises(Refusal, match="is revoked"):
        access.administrator(peer)
    assert told.refusals == [("10.0.0.1", None, "certificate_rejected", 1)]
    access.close()


async def test_clients_are_no_administrators_and_the_other_way_round(
    tmp_path: Path, demo: tuple[Credentials, Client]
) -> None:
    document, peer = administrator(demo[0])
    access = control(tmp_path, document, REMOTE)
    with pytest.raises(Refusal, match="no administrator of this appliance"):
        access.administrator(demo[1].peer(ADMIN_LISTENER))
    with pytest.raises(Refusal, match="no client of this appliance"):
        access.authenticate(Peer(THIS_HOST, peer.certificate, "api", NOW), [demo[1].bearer])
    access.close()


async def test_an_administrators_own_connection_survives_the_change_it_asked_for(tmp_path: Path) -> None:
    document, peer = administrator(founded())
    access = control(tmp_path, document, REMOTE)
    assert access.must_end(peer, None) is None
    document = revoke(document, "certificate", document.issued[-1].reference, NOW, by="bob", reason="")
    access.replace(AccessView.build(configured(REMOTE), document, access.view))
    assert access.must_end(peer, None) == "was refused: its certificate is revoked"


# Open connections.


async def test_open_connections_are_judged_by_the_view_of_now(tmp_path: Path, demo: tuple[Credentials, Client]) -> None:
    document, client = demo
    access = control(tmp_path, document)
    local = client.peer(address=IPv4Address("127.0.0.1"))
    shown = access.authenticate(local, [client.bearer])
    assert access.must_end(local, shown) is None
    document = revoke(document, "principal", "demo", NOW, by="anna", reason="")
    access.replace(AccessView.build(configured(), document, access.view))
    assert access.must_end(local, None) == access.must_end(local, shown) == "is the revoked client demo"


async def test_a_connection_without_a_certificate_ends_where_one_is_asked_for_now(
    tmp_path: Path, demo: tuple[Credentials, Client]
) -> None:
    allow = ("10.0.0.0/8",)
    by_key = Config(listeners={"api": Listener(mode="key", allow=allow)})
    access = control(tmp_path, demo[0], by_key)
    peer = Peer(HERE, None, "api", NOW)
    shown = access.authenticate(peer, [demo[1].bearer])
    assert access.must_end(peer, shown) is None
    strict = Config(listeners={"api": Listener(allow=allow)})
    access.replace(AccessView.build(configured(strict), demo[0], access.view))
    assert "is missing" in str(access.must_end(peer, shown))


async def test_a_key_is_noted_at_the_clock_of_access_control(tmp_path: Path, demo: tuple[Credentials, Client]) -> None:
    document, client = demo
    clock = Clock()
    seen = LastSeen(tmp_path / "last_seen.json")
    access = AccessControl(AccessView.build(configured(), document), seen, EntryHits(tmp_path / "hits"), clock)
    access.authenticate(client.peer(), [client.bearer])
    clock.now = NOW - timedelta(hours=1)
    access.authenticate(client.peer(), [client.bearer])
    assert seen.key(client.key.kid) == clock.now, "a clock that was wrong before is believed no longer"
    clock.now = NOW + 91 * DAY
    with pytest.raises(Refusal):
        access.authenticate(client.peer(), [client.bearer])
    access.close()


async def test_keys_of_a_principal_without_certificate(tmp_path: Path) -> None:
    """In mode `key` nobody has to be a client with a bundle."""
    key = ApiKey.generate()
    document = add_key(founded(), key, "script", NOW, 90 * DAY)
    access = control(tmp_path, document, Config(listeners={"api": Listener(mode="key", allow=("10.0.0.0/8",))}))
    assert access.authenticate(Peer(HERE, None, "api", NOW), [f"Bearer {key.reveal()}"]).id == "script"
    gone = replace(document, keys={})
    access.replace(AccessView.build(access.view.configured, gone, access.view))
    with pytest.raises(Refusal):
        access.authenticate(Peer(HERE, None, "api", NOW), [f"Bearer {key.reveal()}"])
    access.close()
