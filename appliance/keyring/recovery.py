"""The recovery key: an X25519 key that is kept off the host, on paper, and opens backups.

    apl-recovery-secret:XXXX-XXXX-...   14 groups of 4; keep it off the host, in two places
    apl-recovery-public:XXXX-XXXX-...   the host encrypts to it, and can open nothing with it

The text is Crockford's base32 of 32 key bytes and 3 bytes of SHA-256(kind, key), so a slip of the pen is noticed. Case,
white space and hyphens do not count; O reads as 0, I and L as 1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from appliance.errors import ConfigError

KEY_BYTES: Final = 32
_CHECK_BYTES: Final = 3
_GROUP_CHARS: Final = 4
_TEXT_CHARS: Final = 56
_RFC4648: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_WRITE: Final = str.maketrans(_RFC4648, _CROCKFORD)
_READ: Final = str.maketrans(_CROCKFORD + "OIL", _RFC4648 + "ABB")


class RecoveryPublicKey:
    """The half that encrypts. Immutable. fingerprint: 8 bytes that name the pair."""

    KIND: ClassVar[str] = "apl-recovery-public"
    __slots__ = ("fingerprint", "key", "raw")

    def __init__(self, key: X25519PublicKey) -> None:
        self.key = key
        self.raw = key.public_bytes_raw()
        self.fingerprint = hashlib.sha256(b"appliance recovery key|" + self.raw).digest()[:8]

    @classmethod
    def parse(cls, text: str) -> RecoveryPublicKey:
        """Raises ConfigError."""
        return cls(X25519PublicKey.from_public_bytes(_decode(cls.KIND, text)))

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        return _encode(self.KIND, self.raw)


class RecoverySecretKey:
    """The half that opens. Immutable; shows no secret when printed."""

    KIND: ClassVar[str] = "apl-recovery-secret"
    __slots__ = ("key", "public")

    def __init__(self, key: X25519PrivateKey) -> None:
        self.key = key
        self.public = RecoveryPublicKey(key.public_key())

    @classmethod
    def parse(cls, text: str) -> RecoverySecretKey:
        """Raises ConfigError, which never shows the text."""
        return cls(X25519PrivateKey.from_private_bytes(_decode(cls.KIND, text)))

    @property
    def text(self) -> str:
        """As `parse` reads it. For paper."""
        return _encode(self.KIND, self.key.private_bytes_raw())

    def __repr__(self) -> str:
        return f"RecoverySecretKey({self.public.fingerprint.hex()})"


def generate_recovery_key() -> tuple[str, str]:
    """(secret text, public text). The secret is shown once and stored nowhere."""
    secret = RecoverySecretKey(X25519PrivateKey.generate())
    return secret.text, secret.public.text


def _encode(kind: str, key: bytes) -> str:
    text = base64.b32encode(key + _check(kind, key)).decode("ascii").translate(_WRITE)
    return f"{kind}:" + "-".join(text[at : at + _GROUP_CHARS] for at in range(0, len(text), _GROUP_CHARS))


def _decode(kind: str, text: str) -> bytes:
    plain = "".join(text.split())
    written, _, body = plain.rpartition(":")
    if written.lower() != kind:
        raise ConfigError(f"a recovery key begins with `{kind}:` here; give the other text of the pair")
    letters = body.replace("-", "").upper()
    if len(letters) != _TEXT_CHARS or not set(letters) <= set(_CROCKFORD + "OIL"):
        raise ConfigError(f"the {kind} must have 14 groups of 4 letters and digits; compare it with the paper")
    data = base64.b32decode(letters.translate(_READ))
    key, check = data[:KEY_BYTES], data[KEY_BYTES:]
    if not hmac.compare_digest(check, _check(kind, key)):
        raise ConfigError(f"the {kind} has a wrong letter somewhere; compare it with the paper")
    return key


def _check(kind: str, key: bytes) -> bytes:
    return hashlib.sha256(kind.encode() + b"|" + key).digest()[:_CHECK_BYTES]
