"""The API key: its written form and how one is checked. Pure.

    apl_sk_<kid: 12>_<secret: 43><checksum: 6>        characters of base62

The kid finds the record, 256 random bits are the secret, and the CRC-32 of all before it turns a mistyped key away
without a look-up (and lets secret scanners know one when they see it). `apl_adm_` keys are of the same form and never
valid on the API port. Stored is an HMAC of the secret under a pepper: with 256 bits there is nothing to guess, so a
slow password hash would protect nothing and cost each request milliseconds.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

KeyKind = Literal["sk", "adm"]
KeyState = Literal["active", "retiring", "retired", "expired", "revoked"]

_KID_CHARS: Final = 12
_SECRET_CHARS: Final = 43
_CHECKSUM_CHARS: Final = 6
_KID_BITS: Final = 71
_SECRET_BITS: Final = 256
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(r"apl_(?P<kind>sk|adm)_(?P<kid>[0-9A-Za-z]{12})_(?P<secret>[0-9A-Za-z]{43})[0-9A-Za-z]{6}")
_NO_HMAC: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key in plaintext; only `reveal` shows it."""

    kind: KeyKind
    kid: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls, kind: KeyKind = "sk", random_bits: Callable[[int], int] = secrets.randbits) -> ApiKey:
        """A new key; `random_bits(n)` must be cryptographic."""
        kid = _base62(random_bits(_KID_BITS), _KID_CHARS)
        return cls(kind, kid, _base62(random_bits(_SECRET_BITS), _SECRET_CHARS))

    @classmethod
    def parse(cls, text: str) -> ApiKey | None:
        """The key that `text` is, None when it is none: wrong form or wrong checksum."""
        match = _FORM.fullmatch(text)
        if match is None or _checksum(text[:-_CHECKSUM_CHARS]) != text[-_CHECKSUM_CHARS:]:
            return None
        return cls("sk" if match["kind"] == "sk" else "adm", match["kid"], match["secret"])

    def reveal(self) -> str:
        """The text a client sends."""
        body = f"apl_{self.kind}_{self.kid}_{self.secret}"
        return body + _checksum(body)


class Peppers:
    """The secrets that keys are hashed under, by id; the newest is for new records. Shows none when printed."""

    __slots__ = ("_secrets", "newest")

    def __init__(self, secrets_by_id: Mapping[int, bytes]) -> None:
        self._secrets = dict(secrets_by_id)
        self.newest = max(self._secrets)

    def get(self, pepper: int) -> bytes | None:
        """None where it was retired."""
        return self._secrets.get(pepper)

    def hash(self, pepper: int, key: ApiKey) -> bytes:
        """The HMAC that is stored of `key`."""
        return hmac.digest(self._secrets[pepper], key.secret.encode("ascii"), "sha256")


class KeyRecord(Struct, frozen=True, kw_only=True):
    """What is stored of a key. hmac: HMAC-SHA256 of the secret under that pepper.

    not_after: the end of its life. retire_at: set when it was rotated; until then it works beside its successor.
    revoked: since when it is refused, whatever else is true.
    """

    kid: str
    principal: str
    hmac: bytes
    pepper: int
    created: datetime
    label: str = ""
    not_after: datetime | None = None
    retire_at: datetime | None = None
    successor: str | None = None
    revoked: datetime | None = None

    @classmethod
    def of(
        cls,
        key: ApiKey,
        principal: str,
        peppers: Peppers,
        *,
        created: datetime,
        not_after: datetime | None = None,
        label: str = "",
    ) -> KeyRecord:
        """The record to store for `key`, under the newest pepper."""
        return cls(
            kid=key.kid,
            principal=principal,
            hmac=peppers.hash(peppers.newest, key),
            pepper=peppers.newest,
            created=created,
            not_after=not_after,
            label=label,
        )

    def state(self, now: datetime) -> KeyState:
        """Revoked before all else; `retiring` is the only state besides `active` in which the key works."""
        if self.revoked is not None:
            return "revoked"
        if self.retire_at is not None and now >= self.retire_at:
            return "retired"
        if self.not_after is not None and now >= self.not_after:
            return "expired"
        return "active" if self.retire_at is None else "retiring"

    @property
    def works_until(self) -> datetime | None:
        """When it stops to work by itself; None: never."""
        return min((end for end in (self.not_after, self.retire_at) if end is not None), default=None)


def matches(key: ApiKey, record: KeyRecord | None, peppers: Peppers) -> bool:
    """Whether `key` is the one recorded. Takes as long without a record as with one: no oracle for key ids."""
    if record is None or peppers.get(record.pepper) is None:
        hmac.compare_digest(peppers.hash(peppers.newest, key), _NO_HMAC)
        return False
    return hmac.compare_digest(peppers.hash(record.pepper, key), record.hmac)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), _CHECKSUM_CHARS)


def _base62(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits.rjust(width, "0")
