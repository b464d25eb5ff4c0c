"""KEK from a systemd credential: bound to the host, and to its TPM where there is one, by LoadCredentialEncrypted.

Made once by `head -c 32 /dev/urandom | systemd-creds encrypt --name=appliance-kek - appliance-kek.cred`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from appliance.errors import ConfigError, StateError
from appliance.keyring.kek import KEY_BYTES, KekSource
from appliance.keyring.secret_input import read_credential
from appliance.keyring.wrapping_key import WrappingKey

_HEX_CHARS: Final = 2 * KEY_BYTES
_BASE64_CHARS: Final = 44


class CredentialKek:
    """Immutable. The credential is read once."""

    __slots__ = ("_key", "_name")
    source: KekSource = "credential"

    def __init__(self, name: str, key: bytes) -> None:
        self._name = name
        self._key = WrappingKey(key)

    @classmethod
    def open(cls, name: str, environment: Mapping[str, str]) -> CredentialKek:
        """Raises ConfigError."""
        if (key := parse_key(read_credential(name, environment))) is None:
            raise ConfigError(
                f"the credential {name!r} must be {KEY_BYTES} random bytes, as they are, in hex or in base64"
            )
        return cls(name, key)

    @property
    def id(self) -> str:
        return f"{self._name}:{self._key.fingerprint}"

    def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        return self._key.wrap(plaintext, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        if (plaintext := self._key.unwrap(wrapped, context)) is None:
            raise StateError(
                f"the credential {self._name!r} ({self._key.fingerprint}) is another key than the one that wrapped "
                "this, or what it wrapped is damaged; give the unit the credential of that time"
            )
        return plaintext

    def __repr__(self) -> str:
        return f"CredentialKek({self.id})"


def parse_key(data: bytes) -> bytes | None:
    """The key in any of the three forms; None where it is none of them. White space around text does not count."""
    if len(data) == KEY_BYTES:
        return data
    text = data.strip()
    try:
        if len(text) == _HEX_CHARS:
            return binascii.unhexlify(text)
        if len(text) == _BASE64_CHARS:
            key = base64.b64decode(text, validate=True)
            return key if len(key) == KEY_BYTES else None
    except binascii.Error:
        return None
    return None
