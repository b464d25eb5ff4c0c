"""KEK derived from a passphrase by scrypt (RFC 7914).

The salt and the cost are public and lie in `secrets/kek-passphrase.json`. The salt stays when the passphrase changes:
it keeps two appliances apart, and a new passphrase is a new key anyway.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Meta, Struct

from appliance.errors import ConfigError, StateError
from appliance.keyring.kek import KEY_BYTES, KekSource
from appliance.keyring.wrapping_key import WrappingKey
from appliance.state_dir import read_private, write_atomic

FILE_NAME: Final = "kek-passphrase.json"
CHARS_MIN: Final = 12
SALT_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 4096


class ScryptCost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """scrypt's salt and cost: 128·n·r bytes of memory, 128 MiB as they are. Bounds keep a damaged file harmless."""

    version: Literal[1] = 1
    salt: Annotated[bytes, Meta(min_length=16, max_length=64)]
    n: Annotated[int, Meta(ge=2**14, le=2**20)] = 2**17
    r: Annotated[int, Meta(ge=8, le=16)] = 8
    p: Annotated[int, Meta(ge=1, le=4)] = 1


class PassphraseKek:
    """Immutable. Derived once, when it is opened (about half a second); neither passphrase nor key is kept as text."""

    __slots__ = ("_key",)
    source: KekSource = "passphrase"

    def __init__(self, cost: ScryptCost, passphrase: str) -> None:
        """Raises ConfigError as `check_length`."""
        check_length(passphrase)
        derivation = Scrypt(salt=cost.salt, length=KEY_BYTES, n=cost.n, r=cost.r, p=cost.p)
        self._key = WrappingKey(derivation.derive(passphrase.encode()))

    @classmethod
    def open(cls, folder: Path, passphrase: str, *, create: bool) -> PassphraseKek:
        """Reads `<folder>/kek-passphrase.json`; with `create`, makes it where it is missing.

        Raises ConfigError for a passphrase that is too short, StateError for the file. A wrong passphrase shows when
        something is unwrapped.
        """
        path = folder / FILE_NAME
        if create and not path.exists():
            write_atomic(path, msgspec.json.encode(ScryptCost(salt=secrets.token_bytes(SALT_BYTES))))
        try:
            cost = msgspec.json.decode(read_private(path, _FILE_BYTES_MAX), type=ScryptCost)
            return cls(cost, passphrase)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise StateError(f"{path} is damaged ({error}); restore it from a backup") from error

    @property
    def id(self) -> str:
        return f"scrypt:{self._key.fingerprint}"

    def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        return self._key.wrap(plaintext, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        if (plaintext := self._key.unwrap(wrapped, context)) is None:
            raise StateError(
                f"this passphrase ({self._key.fingerprint}) is not the one that wrapped this, or what it wrapped is "
                f"damaged; correct the passphrase, or restore {FILE_NAME} and the keyring from the same backup"
            )
        return plaintext

    def __repr__(self) -> str:
        return f"PassphraseKek({self.id})"


def check_length(passphrase: str) -> None:
    """Raises ConfigError for a passphrase of less than CHARS_MIN characters."""
    if len(passphrase) < CHARS_MIN:
        raise ConfigError(f"the passphrase has {len(passphrase)} characters; it needs at least {CHARS_MIN}")
