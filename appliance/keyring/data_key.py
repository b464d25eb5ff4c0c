"""One data key in its three forms: plain (for a moment), wrapped (on disk, keyring_file.WrappedKey), ready for use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta, Struct

from appliance.errors import StateError
from appliance.keyring.kek import KEY_BYTES, Kek
from appliance.keyring.keyring_file import (
    CreationTime,
    Generation,
    KeyId,
    Messages,
    PurposeName,
    WrappedKey,
    key_context,
)

VERSION: Final = b"\x01"
HEADER_BYTES: Final = 1 + 8


@dataclass(frozen=True, slots=True)
class DataKey:
    """Ready for use; the key's own bytes are in `aead` alone, which does not print them. header: of what it seals."""

    record: WrappedKey
    header: bytes
    aead: AESGCM

    @classmethod
    def of(cls, record: WrappedKey, kek: Kek) -> DataKey:
        """Raises StateError when `kek` does not open it."""
        return cls(record, VERSION + bytes.fromhex(record.id), AESGCM(unwrap_key(record, kek)))


class PlainKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key with nothing around it: between two KEKs, and in an export."""

    id: KeyId
    purpose: PurposeName
    generation: Generation
    created: CreationTime
    reserved: Messages
    key: Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]

    def __repr__(self) -> str:
        return f"PlainKey({self.purpose!r}, {self.generation})"


def kek_name(kek: Kek) -> str:
    """How a wrapped key names the KEK that wrapped it: its source and its id."""
    return f"{kek.source}:{kek.id}"[:256]


def wrap_key(key: PlainKey, kek: Kek) -> WrappedKey:
    """Tries the way back, so that a KEK that wraps and cannot unwrap loses nothing. Raises StateError."""
    context = key_context(key.purpose, key.generation, key.id)
    wrapped = kek.wrap(key.key, context)
    if kek.unwrap(wrapped, context) != key.key:
        raise StateError(f"the KEK {kek.id} ({kek.source}) does not give back what it wrapped; do not use it")
    return WrappedKey(
        id=key.id,
        purpose=key.purpose,
        generation=key.generation,
        created=key.created,
        kek=kek_name(kek),
        wrapped=wrapped,
        reserved=key.reserved,
    )


def unwrap_key(key: WrappedKey, kek: Kek) -> bytes:
    """The key itself. Raises StateError, which names both KEKs, when `kek` does not open it."""
    try:
        plain = kek.unwrap(key.wrapped, key.context)
    except StateError as error:
        raise StateError(
            f"the key of {key.purpose!r}, generation {key.generation}, was wrapped by {key.kek} and does not open with "
            f"{kek.source}:{kek.id}: {error}"
        ) from error
    if len(plain) != KEY_BYTES:
        raise StateError(f"the key of {key.purpose!r}, generation {key.generation}, is damaged; restore a backup")
    return plain


def plain_key(key: WrappedKey, kek: Kek) -> PlainKey:
    """Raises StateError when `kek` does not open it."""
    return PlainKey(
        id=key.id,
        purpose=key.purpose,
        generation=key.generation,
        created=key.created,
        reserved=key.reserved,
        key=unwrap_key(key, kek),
    )
