"""The keys of the audit log: what its caller provides, and what the auditor takes away."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from appliance.audit.record import canonical
from appliance.errors import StateError

_DOMAIN: Final = b"appliance audit\n"


class SealKey:
    """An Ed25519 key that closes segments. Its owner keeps the private half encrypted."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_bytes = private.public_key().public_bytes_raw()
        self.key_id = fingerprint(self.public_bytes)

    @classmethod
    def generate(cls) -> SealKey:
        """A new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, private: bytes) -> SealKey:
        """From `private_bytes`. Raises ValueError unless they are 32."""
        return cls(Ed25519PrivateKey.from_private_bytes(private))

    @property
    def private_bytes(self) -> bytes:
        """32 bytes, secret."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(_DOMAIN + message)


def fingerprint(public: bytes) -> str:
    """The id of a seal key: SHA-256 of its public half, hex."""
    return hashlib.sha256(public).hexdigest()


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the key with this public half signed `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _DOMAIN + message)
    except (InvalidSignature, ValueError):
        return False
    return True


class VerificationKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an auditor needs to check every MAC: written once when the log is founded, then taken away.

    Whoever has it can forge records, so it must not stay on the appliance. founded: the first minute, since 1970.
    key: K0, hex. seal_key: the id of the first seal key.
    """

    v: int
    founded: int
    key: str
    seal_key: str

    @property
    def id(self) -> str:
        """Names this key in the log and gives nothing of it away."""
        return hashlib.sha256(b"id" + bytes.fromhex(self.key)).hexdigest()[:16]

    def encode(self) -> bytes:
        """The file's content."""
        return canonical(self) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> VerificationKey:
        """Raises StateError where `data` is no such file."""
        try:
            found = msgspec.json.decode(data, type=cls)
            whole = len(bytes.fromhex(found.key)) == 32 and found.v == 1
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(f"this is no verification key of an audit log: {error}") from error
        if not whole:
            raise StateError("this is no verification key of an audit log: it has another version or length")
        return found
