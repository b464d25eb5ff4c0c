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
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from appliance.security.secret_files import Generations

KeyKind = Literal["sk", "adm"]

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


class KeyRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stored of a key. hmac: HMAC-SHA256 of the secret under that generation of the pepper."""

    kid: str
    principal: str
    hmac: bytes
    pepper: int
    created: datetime
    label: str = ""

    @classmethod
    def of(cls, key: ApiKey, principal: str, peppers: Generations, *, created: datetime, label: str = "") -> KeyRecord:
        """The record to store for `key`, under the newest pepper."""
        pepper = peppers.newest
        return cls(
            kid=key.kid,
            principal=principal,
            hmac=_hmac(peppers, pepper, key),
            pepper=pepper,
            created=created,
            label=label,
        )


def matches(key: ApiKey, record: KeyRecord | None, peppers: Generations) -> bool:
    """Whether `key` is the one recorded. Takes as long without a record as with one: no oracle for key ids."""
    if record is None or peppers.get(record.pepper) is None:
        hmac.compare_digest(_hmac(peppers, peppers.newest, key), _NO_HMAC)
        return False
    return hmac.compare_digest(_hmac(peppers, record.pepper, key), record.hmac)


def _hmac(peppers: Generations, generation: int, key: ApiKey) -> bytes:
    pepper = peppers.get(generation)
    assert pepper is not None
    return hmac.digest(pepper, key.secret.encode("ascii"), "sha256")


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), _CHECKSUM_CHARS)


def _base62(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits.rjust(width, "0")
