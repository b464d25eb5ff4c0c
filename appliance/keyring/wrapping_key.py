"""A wrapping key in this process: AES-256-GCM with a random 96-bit nonce in front."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.keyring.kek import KEY_BYTES, fingerprint

NONCE_BYTES: Final = 12


class WrappingKey:
    """Immutable; shows no secret when printed."""

    __slots__ = ("_aead", "fingerprint")

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._aead = AESGCM(key)
        self.fingerprint = fingerprint(key)

    def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes | None:
        """None: this key did not wrap it under this context, or it is damaged."""
        try:
            return self._aead.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            return None

    def __repr__(self) -> str:
        return f"WrappingKey({self.fingerprint})"
