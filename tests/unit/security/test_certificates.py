"""appliance.security.certificates, with openssl as an independent judge"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.security.certificate_names import server_names_of
from appliance.security.certificates import (
    KeyPair,
    certificate_pem,
    issue_client,
    issue_from_csr,
    issue_server,
    new_ca,
)
from appliance.security.identity import admin_uri, client_uri, peer_identity
from appliance.security.private_keys import new_key
from tests.security.authorities import PROFILES, client_csr, openssl, own_ca, rsa_key, subject

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "0123456789abcdef"
URI = client_uri(ID, "demo")
CA = own_ca("CA", NOW)


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def verify(folder: Path, certificate: x509.Certificate, purpose: str, when: datetime, ca: KeyPair = CA) -> str:
    """What `openssl verify -x509_strict` says; "ok" where it agrees."""
    (folder / "ca.pem").write_bytes(certificate_pem(ca.certificate))
    (folder / "leaf.pem").write_bytes(certificate_pem(certificate))
    status, output = openssl(
        "verify", "-x509_strict", "-CAfile", folder / "ca.pem", "-purpose", purpose, "-attime",
        str(int(when.timestamp())), folder / "leaf.pem",
    )  # fmt: skip
    return "ok" if status == 0 else output


def test_authority() -> None:
    pair = new_ca(PROFILES.server_ca, "appliance x server CA", NOW)
    constraints = pair.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = pair.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)
    assert pair.certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert pair.certificate.not_valid_after_utc == NOW + timedelta(days=3650)
    assert isinstance(pair.key.curve, ec.SECP256R1)
    pair.certificate.verify_directly_issued_by(pair.certificate)


def test_server_certificate(tmp_path: Path) -> None:
    certificate = issue_server(CA, ("localhost", "127.0.0.1", "::1"), PROFILES.server, NOW).certificate
    assert server_names_of(certificate) == {"localhost", "127.0.0.1", "::1"}
    assert usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.not_valid_after_utc == NOW + timedelta(days=397)
    assert verify(tmp_path, certificate, "sslserver", NOW) == "ok"
    assert "unsuitable certificate purpose" in verify(tmp_path, certificate, "sslclient", NOW)


def test_client_certificate(tmp_path: Path) -> None:
    certificate = issue_client(CA, "demo", URI, PROFILES.client, NOW).certificate
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(san) == [x509.UniformResourceIdentifier(URI)]
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365)
    assert verify(tmp_path, certificate, "sslclient", NOW) == "ok"
    assert "unsuitable certificate purpose" in verify(tmp_path, certificate, "sslserver", NOW)
    assert "expired" in verify(tmp_path, certificate, "sslclient", NOW + timedelta(days=366))
    assert "not yet valid" in verify(tmp_path, certificate, "sslclient", NOW - timedelta(days=2))
    assert "unable to get local issuer" in verify(tmp_path, certificate, "sslclient", NOW, own_ca("other", NOW))


def test_administrators_certificate(tmp_path: Path) -> None:
    ca = new_ca(PROFILES.admin_ca, "admin CA", NOW)
    certificate = issue_client(ca, "anna", admin_uri(ID, "anna"), PROFILES.admin, NOW).certificate
    assert certificate.not_valid_after_utc == NOW + timedelta(days=180)
    assert verify(tmp_path, certificate, "sslclient", NOW, ca) == "ok"
    assert peer_identity(certificate.public_bytes(Encoding.DER), ID, "admin").name == "anna"


def test_a_leaf_can_sign_nothing(tmp_path: Path) -> None:
    leaf = issue_client(CA, "demo", URI, PROFILES.client, NOW)
    below = issue_client(leaf, "admin", URI, PROFILES.client, NOW).certificate
    (tmp_path / "untrusted.pem").write_bytes(certificate_pem(leaf.certificate))
    (tmp_path / "below.pem").write_bytes(certificate_pem(below))
    (tmp_path / "ca.pem").write_bytes(certificate_pem(CA.certificate))
    status, output = openssl(
        "verify", "-CAfile", tmp_path / "ca.pem", "-untrusted", tmp_path / "untrusted.pem", "-attime",
        str(int(NOW.timestamp())), tmp_path / "below.pem",
    )  # fmt: skip
    assert status != 0
    assert "invalid CA certificate" in output


def test_serials_are_random_and_no_leaf_outlives_its_authority() -> None:
    late = NOW + timedelta(days=3600)
    pairs = [issue_client(CA, "demo", URI, PROFILES.client, late) for _ in range(3)]
    assert len({pair.certificate.serial_number for pair in pairs}) == 3
    assert pairs[0].certificate.not_valid_after_utc == CA.certificate.not_valid_after_utc


def test_an_expired_authority_issues_nothing() -> None:
    with pytest.raises(ValueError, match="the authority expired on 2035-12-30; nothing can be issued"):
        issue_client(CA, "demo", URI, PROFILES.client, NOW + timedelta(days=3650))


def test_a_long_host_name_is_cut_in_the_common_name_alone() -> None:
    name = ".".join(["a" * 60] * 3)
    assert server_names_of(issue_server(CA, (name,), PROFILES.server, NOW).certificate) == {name}


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa_key(2048),
    ],
    ids=["P-256", "P-384", "Ed25519", "RSA 2048"],
)
def test_a_request_gets_a_certificate_for_its_key(tmp_path: Path, key: CertificateIssuerPrivateKeyTypes) -> None:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    csr = x509.CertificateSigningRequestBuilder(subject("x")).sign(key, digest).public_bytes(Encoding.PEM)
    certificate = issue_from_csr(CA, csr, URI, PROFILES.client, NOW)
    assert certificate.public_key() == key.public_key()
    assert verify(tmp_path, certificate, "sslclient", NOW) == "ok"
    assert peer_identity(certificate.public_bytes(Encoding.DER), ID).name == "demo"


def test_nothing_that_a_request_asks_for_is_honoured() -> None:
    key = new_key()
    greedy = (
        x509.CertificateSigningRequestBuilder(subject("admin"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(admin_uri(ID, "root"))]), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), critical=False)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    modest = client_csr(key, "demo", URI)
    issued = [issue_from_csr(CA, csr, URI, PROFILES.client, NOW) for csr in (greedy, modest)]
    own = issue_client(CA, "demo", URI, PROFILES.client, NOW).certificate
    assert issued[0].subject == issued[1].subject == own.subject == subject("demo")
    for certificate in issued:
        values = {extension.oid: extension.value for extension in certificate.extensions}
        expected = {extension.oid: extension.value for extension in own.extensions}
        del values[x509.SubjectKeyIdentifier.oid], expected[x509.SubjectKeyIdentifier.oid]
        assert values == expected


def test_a_bad_request_gets_nothing() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        issue_from_csr(CA, b"x", URI, PROFILES.client, NOW)


def test_printing_shows_no_key() -> None:
    assert "key=" not in repr(CA)
