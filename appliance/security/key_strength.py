"""Which foreign keys and signatures are strong enough to rely on. Pure. Our own are always ECDSA P-256, SHA-256."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

RSA_BITS_MIN: Final = 2048
# Each doubling makes a check four times as slow, and anybody may ask for one.
RSA_BITS_MAX: Final = 8192
_RSA_EXPONENT_MIN: Final = 65537

CURVES: Final = frozenset({"secp256r1", "secp384r1"})
# A site's root is made for decades, and some chose the largest curve for it.
AUTHORITY_CURVES: Final = CURVES | {"secp521r1"}

_STRONG: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def key_fault(key: object, curves: frozenset[str] = CURVES) -> str | None:
    """What is wrong with a public key, completing "… ", or None."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return None if key.curve.name in curves else f"has a key on the curve {key.curve.name}; use P-256 or P-384"
    if isinstance(key, rsa.RSAPublicKey):
        return _rsa_fault(key)
    return "has a key of an unknown kind; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits and more"


def signature_fault(signed: x509.Certificate | x509.CertificateRevocationList) -> str | None:
    """What is wrong with the algorithm of a signature, completing "… ", or None. Verifies nothing."""
    if signed.signature_algorithm_oid == SignatureAlgorithmOID.ED25519:
        return None
    try:
        digest = signed.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        digest = None
    if isinstance(digest, _STRONG):
        return None
    name = signed.signature_algorithm_oid.dotted_string if digest is None else digest.name.upper()
    return f"is signed with {name}, which is not safe; SHA-256, SHA-384, SHA-512 and Ed25519 are"


def _rsa_fault(key: rsa.RSAPublicKey) -> str | None:
    if key.key_size < RSA_BITS_MIN:
        return f"has an RSA key of {key.key_size} bits; {RSA_BITS_MIN} is the least"
    if key.key_size > RSA_BITS_MAX:
        return f"has an RSA key of {key.key_size} bits; {RSA_BITS_MAX} is the most"
    exponent = key.public_numbers().e
    if exponent < _RSA_EXPONENT_MIN or exponent % 2 == 0:
        return f"has an RSA key with the exponent {exponent}; 65537 is usual"
    return None
