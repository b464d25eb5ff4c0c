"""Which keys may seal the audit log's segments. Pure.

The document gets a new key before the audit log does. So the log is sealed by one that the document holds, at whatever
step a rotation is cut short.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from appliance.audit.keys import SealKey
from appliance.errors import ChangeRefused
from appliance.security.credentials import Credentials

SEAL_KEYS_MAX: Final = 16


def add_seal_key(document: Credentials, in_use: str | None, fresh: SealKey) -> Credentials:
    """`fresh` as the newest key. in_use: id of the one that the log is sealed with now; those before it are dropped.

    Raises ChangeRefused at SEAL_KEYS_MAX.
    """
    kept = document.seal_keys[_place(document, in_use) or 0 :]
    if len(kept) >= SEAL_KEYS_MAX:
        raise ChangeRefused("conflict", "the audit log took none of the last seal keys; mend it and restart first")
    return replace(document, seal_keys=(*kept, fresh.private_bytes))


def drop_unused_seal_keys(document: Credentials, in_use: str | None) -> Credentials:
    """Without the keys that a rotation, cut short, made after the one in use. As it is where that one is not here."""
    place = _place(document, in_use)
    if place is None or place == len(document.seal_keys) - 1:
        return document
    return replace(document, seal_keys=document.seal_keys[: place + 1])


def _place(document: Credentials, key_id: str | None) -> int | None:
    ids = [SealKey.from_bytes(secret).key_id for secret in document.seal_keys]
    return ids.index(key_id) if key_id in ids else None
