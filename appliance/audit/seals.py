"""What is left of a closed segment for ever: its seal, signed, one after the other. Pure.

A seal file is one line of `signed.py`. Each names the hash of the seal file before it, so that none can go missing.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from appliance.audit.chain import Link

SEAL_BYTES_MAX: Final = 16 * 1024


class Seal(Struct, frozen=True, kw_only=True):
    """segment: its number. key_id: who signed. previous: SHA-256 of the seal file before, NO_HASH for the first.

    sha256, bytes: of the plain file. records: how many were read. first_ts, last_ts: their times; None without records.
    link: what the next segment continues. verification_key, founded: whose epochs these are. broken: what was wrong
    with the segment when the appliance itself closed it as damaged.
    """

    v: int
    segment: int
    key_id: str
    previous: str
    sha256: str
    bytes: int
    records: int
    first_seq: int
    last_seq: int
    first_ts: str | None
    last_ts: str | None
    link: Link
    verification_key: str
    founded: int
    broken: str | None = None


def seal_hash(line: bytes) -> str:
    """What the next seal calls this one."""
    return hashlib.sha256(line).hexdigest()
