"""Private keys of ours: ECDSA P-256, as bytes for the encrypted store or as text for a client."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

PrivateKey = ec.EllipticCurvePrivateKey

_DER_BYTES_MAX: Final = 1024


def new_key() -> PrivateKey:
    """A fresh key from the operating system's randomness."""
    return ec.generate_private_key(ec.SECP256R1())


def key_der(key: PrivateKey) -> bytes:
    """PKCS#8, NOT encrypted: only for a place that is encrypted itself."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def key_pem(key: PrivateKey) -> bytes:
    """PKCS#8 as text, NOT encrypted: what openssl, curl and nginx read as it is."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_from_der(data: bytes) -> PrivateKey:
    """What `key_der` made. Raises ValueError for anything else, a key of another kind included."""
    try:
        key = load_der_private_key(data, None) if len(data) <= _DER_BYTES_MAX else None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("is no readable private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("is no private key of kind ECDSA P-256")
    return key
