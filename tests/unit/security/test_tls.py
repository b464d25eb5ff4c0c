"""appliance.security.tls"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.security.certificates import KeyPair, issue_client, issue_server, new_ca
from appliance.security.pem_pair import certificate_pem, plain_key_pem, write_pair
from appliance.security.tls import capture_alert, client_context, server_context
from appliance.state_dir import write_atomic

NOW = datetime.now(UTC)
SERVER_CA, CLIENT_CA = new_ca("server CA", NOW), new_ca("client CA", NOW)
SERVER = issue_server(SERVER_CA, ("localhost",), NOW)


def build(folder: Path, pair: KeyPair = SERVER, password: bytes = b"secret") -> ssl.SSLContext:
    write_pair(folder / "server.pem", pair, b"secret")
    ca_pems = certificate_pem(CLIENT_CA.certificate), certificate_pem(SERVER_CA.certificate)
    return server_context(folder / "server.pem", password, *ca_pems)


def test_the_context_is_strict(tmp_path: Path) -> None:
    context = build(tmp_path)
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "client CA"),),)]


@pytest.mark.parametrize("password", [b"wrong", b""])
def test_a_wrong_password_is_refused(tmp_path: Path, password: bytes) -> None:
    with pytest.raises(StateError, match=r"server\.pem: no TLS with this certificate"):
        build(tmp_path, password=password)


@pytest.mark.parametrize(
    "pair",
    [
        issue_server(new_ca("another CA", NOW), ("localhost",), NOW),
        issue_server(SERVER_CA, ("elsewhere.example",), NOW),
        issue_client(SERVER_CA, "demo", "appliance://x/client/demo", NOW),
    ],
    ids=["of another CA", "for another host", "for clients"],
)
def test_the_self_test_refuses_a_certificate_that_clients_would_refuse(tmp_path: Path, pair: KeyPair) -> None:
    with pytest.raises(StateError, match="no TLS with this certificate"):
        build(tmp_path, pair)


def test_a_failed_handshake_leaves_its_alert(tmp_path: Path) -> None:
    context = build(tmp_path)
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
    pair = issue_client(CLIENT_CA, "demo", "appliance://x/client/demo", NOW)
    write_atomic(tmp_path / "ca.crt", certificate_pem(SERVER_CA.certificate))
    write_atomic(tmp_path / "client.crt", certificate_pem(pair.certificate))
    with pytest.raises(StateError, match="not a usable client bundle"):
        client_context(tmp_path)
    write_atomic(tmp_path / "client.key", plain_key_pem(pair))
    context = client_context(tmp_path)
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
