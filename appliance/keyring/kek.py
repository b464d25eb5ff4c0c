"""The key-encryption key (KEK): the one key that is not in the state directory's own hands.

It wraps data keys and nothing else, a few dozen in its life.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal, Protocol

KekSource = Literal["file", "credential", "passphrase", "pkcs11"]

KEY_BYTES: Final = 32
_FINGERPRINT_BYTES: Final = 8


class Kek(Protocol):
    """Wraps and unwraps under AES-256-GCM. `wrap` and `unwrap` block for milliseconds, and any thread may call them.

    id: names the key to a person who looks for it; stored beside what it wraps. Not secret.
    context: what the plaintext is. Unwrapping under another context fails.
    """

    @property
    def source(self) -> KekSource: ...

    @property
    def id(self) -> str: ...

    def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        """Raises StateError when the key cannot be used now."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises StateError, which says what to do next, when this key did not wrap it or it is damaged."""
        ...


def fingerprint(key: bytes) -> str:
    """16 hex digits that tell keys apart and do not lead back to one of 256 random bits.

    For a derived key it helps a guesser no more than anything the key wraps.
    """
    return hashlib.blake2b(b"kek id", key=key, digest_size=_FINGERPRINT_BYTES).hexdigest()
