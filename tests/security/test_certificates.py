"""Which certificates get in, what the others are told, and what the log says of them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.security import gate
from appliance.security.certificates import KeyPair, certificate_pem, issue_client
from tests.security.authorities import PROFILES, own_ca
from tests.security.forgery import DAY, authority, forge, present
from tests.security.site import Site


def uri(site: Site, name: str = "demo") -> str:
    return f"appliance://{site.office.document.appliance_id}/client/{name}"


def with_certificate(site: Site, pair: KeyPair | None, folder: Path) -> ssl.SSLContext:
    return present(pair, site.state.clients / "demo" / "ca.crt", folder)


async def test_a_client_of_ours_gets_in(site: Site) -> None:
    answer = await site.ask()
    assert (answer.status, answer.body["principal"]) == (200, "demo")
    await site.add_client("bob")
    assert (await site.ask(site.tls("bob"), site.bearer("bob"))).body["principal"] == "bob"


async def test_no_certificate(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert await site.alert(with_certificate(site, None, tmp_path)) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert caplog.messages == ["127.0.0.1 presented no certificate"]
    assert (await site.settled()).handshake_failed == 1


async def test_openssl_sees_the_alert_too(site: Site) -> None:
    """Alert 116, certificate_required; the client's request was already on its way when it was sent."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-ign_eof",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    assert b"SSL alert number 116" in output


async def test_what_a_client_sends_late_does_not_destroy_the_alert(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing over unread data resets the connection, and some systems then drop what they have received."""
    monkeypatch.setattr(gate, "FAREWELL_SECONDS", 60.0)
    context = with_certificate(site, None, tmp_path)

    def attempt() -> bytes:
        connection = socket.create_connection(("127.0.0.1", site.port))
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            time.sleep(0.1)
            tls.sendall(bytes(50_000))
            time.sleep(0.1)
            with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"):
                tls.recv(1)
            with socket.socket(fileno=os.dup(tls.fileno())) as raw:
                return raw.recv(1)

    assert await asyncio.to_thread(attempt) == b""


@pytest.mark.parametrize(
    ("make", "alert", "sentence"),
    [
        (
            lambda site: forge(own_ca("stranger"), [uri(site)]),
            "TLSV1_ALERT_UNKNOWN_CA",
            "presented a certificate of another CA",
        ),
        (
            lambda site: forge(own_ca(f"appliance {uri(site)[12:28]} client CA"), [uri(site)], names_issuer=False),
            "TLSV1_ALERT_DECRYPT_ERROR",
            "presented a certificate that names our CA but was not signed by it",
        ),
        (lambda site: forge(None, [uri(site)]), "TLSV1_ALERT_UNKNOWN_CA", "presented a self-signed certificate"),
        (
            lambda site: forge(authority(site.state, "server"), [uri(site)]),
            "TLSV1_ALERT_UNKNOWN_CA",
            "presented a certificate of another CA",
        ),
        (
            lambda site: forge(authority(site.state, "client"), [uri(site)], valid=(-2 * DAY, -DAY)),
            "SSLV3_ALERT_CERTIFICATE_EXPIRED",
            "presented an expired certificate",
        ),
        (
            lambda site: forge(authority(site.state, "client"), [uri(site)], valid=(DAY, 2 * DAY)),
            "SSLV3_ALERT_BAD_CERTIFICATE",
            "presented a certificate that is not valid yet; compare the clocks",
        ),
        (
            lambda site: forge(authority(site.state, "client"), [uri(site)], usage=[ExtendedKeyUsageOID.SERVER_AUTH]),
            "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
            "presented a certificate that is not for clients",
        ),
        (
            lambda site: forge(
                authority(site.state, "client"), [uri(site)], usage=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]
            ),
            "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
            "presented a certificate that is not for clients",
        ),
    ],
    ids=[
        "another CA",
        "our CA's name",
        "self-signed",
        "our server CA",
        "expired",
        "not yet valid",
        "for servers",
        "for anything",
    ],
)
async def test_a_certificate_that_fails_the_handshake(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, make: object, alert: str, sentence: str
) -> None:
    assert callable(make)
    assert await site.alert(with_certificate(site, make(site), tmp_path)) == alert
    assert caplog.messages == [f"127.0.0.1 {sentence}"]


async def test_a_certificate_signed_by_a_clients_own_key(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leaf = issue_client(authority(site.state, "client"), "demo", uri(site), PROFILES.client, datetime.now(UTC))
    forged = forge(leaf, [uri(site, "admin")], common_name="admin")
    context = with_certificate(site, forged, tmp_path)
    chain = tmp_path / "forged.crt"
    chain.write_bytes(chain.read_bytes() + certificate_pem(leaf.certificate))
    context.load_cert_chain(chain, tmp_path / "forged.key")
    assert await site.alert(context) == "TLSV1_ALERT_UNKNOWN_CA"
    assert caplog.messages == ["127.0.0.1 presented a certificate whose issuer is no CA"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda site, ca: forge(ca, [uri(site)], usage=None), "not for clients"),
        (lambda site, ca: forge(ca, [uri(site), uri(site, "admin")]), "2 URI names"),
        (lambda site, ca: forge(ca, [], common_name="admin"), "names nobody"),
        (lambda site, ca: forge(ca, ["appliance://0000000000000000/client/demo"]), "no client of this appliance"),
        (lambda site, ca: forge(ca, [uri(site).replace("/client/", "/admin/")]), "no client of this appliance"),
        (lambda site, ca: forge(ca, [uri(site)], padding=400), "larger than 8192 bytes"),
    ],
    ids=["no EKU", "two URIs", "common name only", "another appliance", "administrator", "large"],
)
async def test_a_certificate_that_openssl_lets_pass(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, make: object, message: str
) -> None:
    assert callable(make)
    answer = await site.ask(with_certificate(site, make(site, authority(site.state, "client")), tmp_path))
    assert (answer.status, answer.body["code"]) == (401, "certificate_rejected")
    assert message in answer.body["message"]
    assert message in caplog.messages[0]


async def test_a_common_name_gives_no_power(site: Site, tmp_path: Path) -> None:
    pair = forge(authority(site.state, "client"), [uri(site)], common_name="admin")
    assert (await site.ask(with_certificate(site, pair, tmp_path))).body["principal"] == "demo"


async def test_a_certificate_expires_on_an_open_connection(site: Site) -> None:
    async with site.connect(site.tls()) as connection:
        assert (await connection.ask([site.bearer()])).status == 200
        site.clock.now = datetime.now(UTC) + timedelta(days=366)
        answer = await connection.ask([site.bearer()])
        assert (answer.status, answer.body["code"]) == (401, "certificate_rejected")


async def test_tls_1_2_is_refused(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    context = site.tls()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await site.alert(context) == "TLSV1_ALERT_PROTOCOL_VERSION"
    assert caplog.messages == ["127.0.0.1 offered TLS 1.2 at most; TLS 1.3 is required"]


async def test_a_client_that_does_not_trust_this_server_is_named(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def attempt() -> None:
        """Not with asyncio, whose clients leave without a word."""
        with socket.create_connection(("127.0.0.1", site.port)) as connection:
            ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")

    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(attempt)
    await site.settled()
    assert caplog.messages == ["127.0.0.1 refused this server's certificate or TLS (alert: unknown ca)"]


async def test_no_session_tickets_are_issued(site: Site) -> None:
    async with site.connect(site.tls()) as connection:
        await connection.ask([site.bearer()])
        tls = connection.writer.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3"
        assert tls.session is None or not tls.session.has_ticket
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{site.port}", "-ign_eof",
        "-CAfile", str(site.state.clients / "demo" / "ca.crt"),
        "-cert", str(site.state.clients / "demo" / "client.crt"),
        "-key", str(site.state.clients / "demo" / "client.key"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b"missing_api_key" in output
    assert b"Verify return code: 0 (ok)" in output
    assert b"Session Ticket" not in output
