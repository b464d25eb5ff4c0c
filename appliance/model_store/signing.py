"""Signatures of whoever prepares models on the connected side: Ed25519 over the list of hashes.

`openssl pkeyutl -verify -pubin -inkey KEY -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig` checks the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from msgspec import Struct

from appliance.errors import ChangeRefused, ConfigError

SIGNATURE_BYTES: Final = 64


class SignerId(Struct, frozen=True):
    """name: the key file's, without its ending. fingerprint: SHA-256 of the raw public key, hex."""

    name: str
    fingerprint: str


class Signer:
    """One public key that counts."""

    def __init__(self, name: str, key: Ed25519PublicKey) -> None:
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = SignerId(name, hashlib.sha256(raw).hexdigest())
        self._key = key

    @classmethod
    def parse(cls, name: str, pem: bytes) -> Signer:
        """Raises ValueError with the fault."""
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("is no public key in PEM") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("is no Ed25519 key; `openssl pkey -in KEY -pubout` makes one from what signs")
        return cls(name, key)

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def signer_of(signers: Iterable[Signer], message: bytes, signature: bytes) -> SignerId:
    """Who signed. Raises ChangeRefused where nobody of them did."""
    known = list(signers)
    if not known:
        raise ChangeRefused("invalid", "it is signed, but models.signers in appliance.yaml names no key that counts")
    if len(signature) != SIGNATURE_BYTES:
        raise ChangeRefused(
            "invalid", f"its signature has {len(signature)} bytes, not the {SIGNATURE_BYTES} of Ed25519"
        )
    for signer in known:
        if signer.signed(message, signature):
            return signer.id
    names = ", ".join(signer.id.name for signer in known)
    raise ChangeRefused(
        "invalid", f"its signature is not by a key of models.signers ({names}), or the list was changed"
    )


def parse_signing_key(pem: bytes, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Raises ConfigError; TypeError where it needs a passphrase."""
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError("the signing key is no private key in PEM, or the passphrase is wrong") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("the signing key is no Ed25519 key; `openssl genpkey -algorithm ed25519` makes one")
    return key
