"""A certificate and its private key in one PEM file, the key encrypted.

One file, because two cannot be replaced at once: a crash between them would leave a certificate with another's key.
The key is PKCS#8 (PBES2, AES-256) under a password derived from the key-encryption key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from appliance.errors import StateError
from appliance.security.certificates import KeyPair
from appliance.state_dir import read_private, write_atomic

FILE_BYTES_MAX: Final = 64 * 1024


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as text."""
    return certificate.public_bytes(Encoding.PEM)


def plain_key_pem(pair: KeyPair) -> bytes:
    """The private key unencrypted: for a client's bundle only, which openssl, curl and nginx read as it is."""
    return pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_pair(path: Path, pair: KeyPair, password: bytes) -> None:
    """Replaces the file as a whole."""
    key = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    write_atomic(path, certificate_pem(pair.certificate) + key)


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate alone, no password needed. Raises StateError."""
    try:
        return x509.load_pem_x509_certificate(read_private(path, FILE_BYTES_MAX))
    except ValueError as error:
        raise StateError(f"{path} holds no readable certificate; restore it from a backup") from error


def read_pair(path: Path, passwords: Sequence[bytes]) -> KeyPair:
    """Raises StateError when the file is damaged or none of the passwords opens its key."""
    key, _ = _open_key(path, passwords)
    certificate = read_certificate(path)
    if certificate.public_key() != key.public_key():
        raise StateError(f"{path}: the private key does not belong to the certificate; restore it from a backup")
    return KeyPair(certificate, key)


def password_for(path: Path, passwords: Sequence[bytes]) -> bytes:
    """The one of `passwords` that opens the file's key. Raises StateError."""
    return _open_key(path, passwords)[1]


def _open_key(path: Path, passwords: Sequence[bytes]) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    data = read_private(path, FILE_BYTES_MAX)
    for password in passwords:
        try:
            key = load_pem_private_key(data, password)
        except (ValueError, TypeError):
            continue
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key, password
    raise StateError(
        f"{path}: no key-encryption key in secrets/ opens it; restore secrets/ and pki/ from the same backup"
    )
