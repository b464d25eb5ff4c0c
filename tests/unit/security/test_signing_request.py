"""appliance.security.signing_request"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.private_keys import key_pem, new_key
from appliance.security.signing_request import CSR_BYTES_MAX, make_csr, requested_key
from tests.security.authorities import client_csr, openssl, rsa_key, subject

URI = "appliance://0123456789abcdef/client/demo"
REQUEST = client_csr(new_key(), "demo", URI)


def request(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder(subject("demo"))
    return builder.sign(key, digest).public_bytes(Encoding.PEM)


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
def test_keys_that_may_be_certified(key: CertificateIssuerPrivateKeyTypes) -> None:
    assert requested_key(request(key)) == key.public_key()


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (rsa_key(1024), "the signing request has an RSA key of 1024 bits; 2048 is the least"),
        (rsa_key(2048, 3), "exponent 3"),
        (ec.generate_private_key(ec.SECP224R1()), "on the curve secp224r1; use P-256 or P-384"),
        (ec.generate_private_key(ec.SECP521R1()), "on the curve secp521r1"),
    ],
)
def test_weak_keys_are_refused(key: CertificateIssuerPrivateKeyTypes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        requested_key(request(key))


def test_openssls_own_requests_are_read(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(key_pem(new_key()))
    status, _ = openssl(
        "req", "-new", "-key", tmp_path / "key.pem", "-subj", "/CN=admin", "-out", tmp_path / "request.pem",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "subjectAltName=URI:appliance://x/admin/root",
    )  # fmt: skip
    assert status == 0
    assert isinstance(requested_key((tmp_path / "request.pem").read_bytes()), ec.EllipticCurvePublicKey)


def test_somebody_elses_key_is_refused() -> None:
    """The key of another, in a request signed with one's own: its certificate would name the wrong holder."""
    victim, thief = new_key(), new_key()
    der = bytearray(x509.load_pem_x509_csr(request(thief)).public_bytes(Encoding.DER))
    own, other = (
        key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in (thief, victim)
    )
    forged = bytes(der).replace(own, other)
    assert forged != bytes(der)
    with pytest.raises(ValueError, match="not signed with its own key"):
        requested_key(pem(forged))


@pytest.mark.parametrize("text", [b"", b"x", REQUEST[:-60], REQUEST.replace(b"M", b"")])
def test_what_is_no_request(text: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        requested_key(text)


def test_a_large_one_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="larger than"):
        requested_key(b"\n" * CSR_BYTES_MAX + REQUEST)


@given(st.data())
def test_a_request_that_was_changed_is_never_signed(data: st.DataObject) -> None:
    der = bytearray(base64.b64decode(b"".join(REQUEST.splitlines()[1:-1])))
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="the signing request"):
        requested_key(pem(bytes(der)))


def test_a_request_for_a_server_elsewhere() -> None:
    text = make_csr(new_key(), ["llm.example", "10.1.2.3", "::1"])
    status, output = openssl("req", "-verify", "-noout", "-text", stdin=text)
    assert status == 0
    assert "verify OK" in output
    assert "DNS:llm.example, IP Address:10.1.2.3, IP Address:0:0:0:0:0:0:0:1" in output
    assert "TLS Web Server Authentication" in output
    assert "CN = llm.example" in output


def pem(der: bytes) -> bytes:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n".encode()
