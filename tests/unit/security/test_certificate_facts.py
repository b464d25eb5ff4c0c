"""appliance.security.certificate_facts"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.certificate_facts import (
    CertificateFacts,
    extension_of,
    fingerprint,
    issuer_key_id,
    own_key_id,
)
from appliance.security.certificates import certificate_pem, issue_client, issue_server
from appliance.security.identity import admin_uri, client_uri
from appliance.security.private_keys import new_key
from tests.security.authorities import PROFILES, ForeignCa, key_usage, openssl, own_ca, subject

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA = own_ca("CA", NOW)
SERVER = issue_server(CA, ("localhost", "::1"), PROFILES.server, NOW).certificate
CLIENT = issue_client(CA, "demo", client_uri("x", "demo"), PROFILES.client, NOW).certificate
ADMIN = issue_client(CA, "anna", admin_uri("x", "anna"), PROFILES.client, NOW).certificate


def test_facts() -> None:
    facts = CertificateFacts.of(CLIENT)
    assert facts == CertificateFacts(
        kind="client",
        subject="CN=demo",
        issuer="CN=CA",
        serial=f"{CLIENT.serial_number:x}",
        not_before=CLIENT.not_valid_before_utc,
        not_after=CLIENT.not_valid_after_utc,
        names=("appliance://x/client/demo",),
        fingerprint=fingerprint(CLIENT),
    )
    assert CertificateFacts.of(SERVER).names == ("localhost", "::1")


def test_kinds() -> None:
    kinds = [CertificateFacts.of(certificate).kind for certificate in (CA.certificate, SERVER, CLIENT, ADMIN)]
    assert kinds == ["authority", "server", "client", "admin"]
    email = ForeignCa().server(new_key().public_key(), [], purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION)
    assert CertificateFacts.of(email).kind == "other"


def test_openssl_gives_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_bytes(certificate_pem(CLIENT))
    _, output = openssl("x509", "-in", tmp_path / "c.pem", "-noout", "-fingerprint", "-sha256", "-serial", "-ext",
                        "authorityKeyIdentifier")  # fmt: skip
    plain = output.replace(":", "").lower()
    facts = CertificateFacts.of(CLIENT)
    assert facts.fingerprint in plain
    # openssl makes the number of digits even.
    assert re.search(f"^serial=0?{facts.serial}$", plain, re.MULTILINE)
    assert issuer_key_id(CLIENT) in plain


def test_a_leaf_names_the_key_of_its_issuer() -> None:
    assert issuer_key_id(CLIENT) == own_key_id(CA.certificate) != ""
    assert issuer_key_id(CA.certificate) == ""


def test_a_key_without_a_name_has_the_usual_one() -> None:
    unnamed = ForeignCa(extensions=[x509.BasicConstraints(ca=True, path_length=None)])
    expected = x509.SubjectKeyIdentifier.from_public_key(unnamed.key.public_key()).digest.hex()
    assert own_key_id(unnamed.certificate) == expected


def test_texts_are_safe_to_print() -> None:
    ca = ForeignCa("evil\n\x1b[2Jname")
    facts = CertificateFacts.of(ca.certificate)
    assert facts.subject.isprintable()
    name = x509.UniformResourceIdentifier("x://\n")
    hostile = ca.sign(subject("x"), new_key().public_key(), [x509.SubjectAlternativeName([name])])
    assert CertificateFacts.of(hostile).names == ("x://\\x0a",)


def test_many_and_strange_names() -> None:
    names: list[x509.GeneralName] = [
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.DirectoryName(subject("inside")),
        x509.RFC822Name("a@b"),
        *[x509.DNSName(f"h{number}") for number in range(300)],
    ]
    certificate = ForeignCa().sign(subject("x"), new_key().public_key(), [x509.SubjectAlternativeName(names)])
    found = CertificateFacts.of(certificate).names
    assert found[:3] == ("CN=inside", "a@b", "h0")
    assert len(found) == 256


def test_extensions_that_cannot_be_read() -> None:
    broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\xff\xff")
    certificate = ForeignCa().sign(subject("x"), new_key().public_key(), [broken])
    with pytest.raises(ValueError, match="parsing"):
        _ = certificate.extensions
    assert CertificateFacts.of(certificate).kind == "other"


@pytest.mark.filterwarnings("ignore:Parsed a serial number", "ignore:Attribute's length")
@given(st.data())
def test_a_certificate_from_anywhere_has_facts(data: st.DataObject) -> None:
    damaged = bytearray(CLIENT.public_bytes(Encoding.DER))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        certificate = x509.load_der_x509_certificate(bytes(damaged))
    except (ValueError, x509.InvalidVersion):
        return
    assert CertificateFacts.of(certificate).fingerprint == fingerprint(certificate)


def test_extension_of() -> None:
    usage = extension_of(CA.certificate.extensions, x509.KeyUsage)
    assert usage == key_usage(key_cert_sign=True, crl_sign=True)
    assert extension_of(CA.certificate.extensions, x509.ExtendedKeyUsage) is None
