"""appliance.security.tls"""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.errors import StateError
from appliance.security.certificates import KeyPair, certificate_pem, issue_client, issue_server
from appliance.security.credentials import StoredPair
from appliance.security.private_keys import key_pem
from appliance.security.stored_pair import store_pair
from appliance.security.tls import capture_alert, client_context, server_context
from appliance.state_dir import write_atomic
from tests.security.authorities import DAY, PROFILES, own_ca

NOW = datetime.now(UTC)
SERVER_CA, CLIENT_CA = own_ca("server CA", NOW), own_ca("client CA", NOW)
SERVER = issue_server(SERVER_CA, ("localhost",), PROFILES.server, NOW)
TRUST = certificate_pem(CLIENT_CA.certificate)


def build(pair: StoredPair | None = None, trust: bytes | None = TRUST, name: str = "localhost") -> ssl.SSLContext:
    return server_context(pair or store_pair(SERVER), (name,), trust)


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """A handshake in memory, and the server's end of it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[1]


def client_of(ca: KeyPair, pair: KeyPair | None, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificate_pem(ca.certificate).decode())
    if pair is not None:
        write_atomic(folder / "client.pem", certificate_pem(pair.certificate) + key_pem(pair.key))
        context.load_cert_chain(folder / "client.pem")
    return context


def test_the_context_is_strict() -> None:
    context = build()
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "client CA"),),)]


def test_without_authorities_it_asks_for_no_certificate(tmp_path: Path) -> None:
    context = build(trust=None)
    assert context.verify_mode == ssl.CERT_NONE
    assert (context.num_tickets, context.minimum_version) == (0, ssl.TLSVersion.TLSv1_3)
    assert shake(context, client_of(SERVER_CA, None, tmp_path)).getpeercert(True) is None


def test_a_client_of_a_trusted_authority_gets_in_and_no_other(tmp_path: Path) -> None:
    pairs = [
        issue_client(ca, "demo", "appliance://x/client/demo", PROFILES.client, NOW) for ca in (CLIENT_CA, SERVER_CA)
    ]
    shaken = shake(build(), client_of(SERVER_CA, pairs[0], tmp_path))
    assert shaken.getpeercert(True) == store_pair(pairs[0]).certificate
    for wrong in (pairs[1], None):
        with pytest.raises(ssl.SSLError):
            shake(build(), client_of(SERVER_CA, wrong, tmp_path))


def test_two_authorities_of_one_name_are_both_trusted(tmp_path: Path) -> None:
    """As they are while an authority is rotated."""
    successor = own_ca("client CA", NOW)
    context = build(trust=TRUST + certificate_pem(successor.certificate))
    for ca in (CLIENT_CA, successor):
        pair = issue_client(ca, "demo", "appliance://x/client/demo", PROFILES.client, NOW)
        assert shake(context, client_of(SERVER_CA, pair, tmp_path)).getpeercert(True) is not None


STORED = store_pair(SERVER)


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        (store_pair(issue_server(SERVER_CA, ("elsewhere.example",), PROFILES.server, NOW)), "Hostname mismatch"),
        (store_pair(issue_client(SERVER_CA, "demo", "appliance://x/client/demo", PROFILES.client, NOW)), "purpose"),
        (store_pair(issue_server(SERVER_CA, ("localhost",), PROFILES.server, NOW - 400 * DAY)), "expired"),
        (store_pair(issue_server(SERVER_CA, ("localhost",), PROFILES.server, NOW + 2 * DAY)), "not yet valid"),
        (replace(STORED, key=store_pair(CLIENT_CA).key), "KEY_VALUES_MISMATCH"),
        (replace(STORED, key=b"no key"), ""),
        (replace(STORED, certificate=b"no certificate"), ""),
        (replace(STORED, key=None), "its private key is not here"),
    ],
    ids=["for another host", "for clients", "expired", "not yet valid", "another's key", "junk key", "junk", "no key"],
)
@pytest.mark.parametrize("trust", [TRUST, None], ids=["asking", "not asking"])
def test_the_self_test_refuses_a_certificate_that_clients_would_refuse(
    pair: StoredPair, why: str, trust: bytes | None
) -> None:
    with pytest.raises(StateError, match="no TLS with this server certificate") as caught:
        build(pair, trust)
    assert why in str(caught.value)


@pytest.mark.parametrize("trust", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\n"])
def test_authorities_that_cannot_be_read_are_refused(trust: bytes) -> None:
    with pytest.raises(StateError, match="no TLS with this server certificate"):
        build(trust=trust)


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_nothing_stays_open() -> None:
    before = open_files()
    build()
    with pytest.raises(StateError):
        build(replace(STORED, key=b"no key"))
    assert open_files() == before


def test_a_failed_handshake_leaves_its_alert() -> None:
    context = build()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with capture_alert() as alert:
        server = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
        with pytest.raises(ssl.SSLError):
            server.do_handshake()
    # Record type 21 is an alert, its level 2 is fatal.
    assert alert.records[0] == 21
    assert alert.records[5] == 2


def test_client_context_needs_a_whole_bundle(tmp_path: Path) -> None:
    pair = issue_client(CLIENT_CA, "demo", "appliance://x/client/demo", PROFILES.client, NOW)
    write_atomic(tmp_path / "ca.crt", certificate_pem(SERVER_CA.certificate))
    write_atomic(tmp_path / "client.crt", certificate_pem(pair.certificate))
    with pytest.raises(StateError, match="not a usable client bundle"):
        client_context(tmp_path)
    write_atomic(tmp_path / "client.key", key_pem(pair.key))
    context = client_context(tmp_path)
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
