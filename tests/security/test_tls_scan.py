"""What a scanner finds at the TLS port: versions, renegotiation, session tickets, signature algorithms.

The scanner is openssl's command line, and bytes of our own where it is too young to speak what we look for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.security.certificates import certificate_pem, issue_server
from appliance.security.credentials import StoredPair
from appliance.security.private_keys import key_pem
from appliance.security.tls import server_context
from tests.security.authorities import PROFILES, ForeignCa, rsa_key
from tests.security.forgery import authority
from tests.security.site import Site

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def s_client(
    site: Site, *arguments: str | Path, port: int | None = None, stdin: bytes = REQUEST, certificate: bool = True
) -> str:
    """All that `openssl s_client` says as client demo, or as nobody."""
    bundle = site.state.clients / "demo"
    shown = ("-cert", bundle / "client.crt", "-key", bundle / "client.key") if certificate else ()
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port or site.port}", "-servername", "localhost",
        "-CAfile", str(bundle / "ca.crt"), *map(str, [*shown, *arguments]),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(stdin), 60)
    return output.decode("utf-8", "replace")


async def test_tls_1_3_is_spoken(site: Site) -> None:
    output = await s_client(site, "-tls1_3", "-ign_eof")
    assert "New, TLSv1.3, Cipher is TLS_" in output
    assert "Verify return code: 0 (ok)" in output
    assert "missing_api_key" in output


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2", "-no_tls1_3"])
async def test_nothing_older_is(site: Site, caplog: pytest.LogCaptureFixture, version: str) -> None:
    output = await s_client(site, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "SSL alert number 70" in output
    assert "New, (NONE), Cipher is (NONE)" in output
    assert "BEGIN CERTIFICATE" not in output
    await site.settled()
    assert caplog.messages == ["127.0.0.1 offered TLS 1.2 at most; TLS 1.3 is required"]


def hello(version: int) -> bytes:
    """A ClientHello of SSL 3.0 (0x0300) to TLS 1.2 (0x0303), without extensions."""
    body = struct.pack(">H", version) + bytes(32) + b"\x00" + b"\x00\x04\x00\x2f\xc0\x2f" + b"\x01\x00"
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16" + struct.pack(">HH", min(version, 0x0301), len(handshake)) + handshake


@pytest.mark.parametrize(
    ("version", "alert"),
    [(0x0300, 40), (0x0301, 70), (0x0302, 70), (0x0303, 70)],
    ids=["SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2"],
)
async def test_old_hellos_are_answered_with_an_alert(
    site: Site, caplog: pytest.LogCaptureFixture, version: int, alert: int
) -> None:
    """70 is protocol_version; of SSL 3.0 OpenSSL says handshake_failure, 40."""
    answer = await site.raw(hello(version))
    assert answer[0] == 21, "a record of type alert"
    assert answer[3:] == bytes([0, 2, 2, alert]), "two bytes: fatal, and which"
    await site.settled()
    assert caplog.messages == ["127.0.0.1 offered TLS 1.2 at most; TLS 1.3 is required"]


async def test_an_ssl_2_hello_is_closed(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    body = b"\x01\x00\x02" + struct.pack(">HHH", 3, 0, 16) + b"\x01\x00\x80" + bytes(16)
    answer = await site.raw(struct.pack(">H", 0x8000 | len(body)) + body)
    assert answer == b"" or answer[0] == 21
    await site.settled()
    assert len(caplog.messages) == 1


async def test_a_downgrade_inside_a_new_hello_is_refused(site: Site) -> None:
    """The legacy signal of a client that fell back from a newer version (RFC 7507)."""
    assert "SSL alert number 70" in await s_client(site, "-no_tls1_3", "-fallback_scsv")


async def test_there_is_no_renegotiation(site: Site) -> None:
    """TLS 1.3 has none: openssl sends nothing for its command R, and a key update is not one."""
    output = await s_client(site, "-tls1_3", stdin=b"R\n" + REQUEST)
    assert "Secure Renegotiation IS NOT supported" in output
    assert "RENEGOTIATING" in output
    assert "wrong ssl version" in output
    assert output.count("BEGIN CERTIFICATE") == 1


async def test_no_early_data(site: Site) -> None:
    output = await s_client(site, "-tls1_3", "-ign_eof")
    assert "Max Early Data" not in output
    assert "Early data was not sent" in output


async def test_no_ticket_is_issued(site: Site, tmp_path: Path) -> None:
    output = await s_client(site, "-tls1_3", "-ign_eof", "-sess_out", tmp_path / "session.pem")
    assert "missing_api_key" in output
    assert "Session Ticket" not in output
    assert not (tmp_path / "session.pem").exists()


@contextlib.contextmanager
def server_with_tickets(context: ssl.SSLContext) -> Iterator[int]:
    """A server that hands out tickets and answers one request; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(4096)
                tls.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join(60)


@pytest.fixture
async def session(site: Site, tmp_path: Path) -> Path:
    """A session that can be resumed, of the same names and authorities: from a time when tickets were still issued."""
    session = tmp_path / "session.pem"
    pair = issue_server(authority(site.state, "server"), ("localhost",), PROFILES.server, datetime.now(UTC))
    (tmp_path / "server.pem").write_bytes(certificate_pem(pair.certificate) + key_pem(pair.key))
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.load_cert_chain(tmp_path / "server.pem")
    with server_with_tickets(lax) as port:
        assert "New, TLSv1.3" in await s_client(site, "-ign_eof", "-sess_out", session, port=port)
    with server_with_tickets(lax) as port:
        assert "Reused, TLSv1.3" in await s_client(site, "-ign_eof", "-sess_in", session, port=port)
    return session


async def test_a_saved_session_leads_to_a_full_handshake(site: Site, session: Path) -> None:
    output = await s_client(site, "-ign_eof", "-sess_in", session)
    assert "New, TLSv1.3" in output
    assert "Reused" not in output
    assert "missing_api_key" in output


async def test_a_saved_session_stands_for_no_certificate(site: Site, session: Path) -> None:
    output = await s_client(site, "-ign_eof", "-sess_in", session, certificate=False)
    assert "SSL alert number 116" in output
    assert "HTTP/1.1" not in output


async def test_after_a_change_of_key_kind_the_old_certificate_is_gone(site: Site) -> None:
    """A live context keeps its RSA certificate beside the new one and shows it to clients that know only RSA."""
    only_rsa = "-sigalgs", "RSA-PSS+SHA256"
    ca = ForeignCa()
    key = rsa_key()
    rsa_pair = StoredPair(
        certificate=ca.server(key.public_key(), ["localhost"]).public_bytes(Encoding.DER),
        key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    )
    client_ca = certificate_pem(authority(site.state, "client").certificate)
    modern = site.context
    site.context = server_context(rsa_pair, ["localhost"], client_ca)
    assert "subject=CN = llm.example" in await s_client(site, "-tls1_3", *only_rsa, stdin=b"")

    site.context = modern
    output = await s_client(site, "-tls1_3", *only_rsa, stdin=b"")
    assert "SSL alert number 40" in output
    assert "BEGIN CERTIFICATE" not in output
    assert "missing_api_key" in await s_client(site, "-tls1_3", "-ign_eof")
