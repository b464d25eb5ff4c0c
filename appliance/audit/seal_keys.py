"""Which key may seal which segments: a chain in which the last act of each key names the next. Pure.

`seal-keys.json` holds one entry a line. An entry is signed by the key before it; the first one by itself, and an
auditor compares its id with the fingerprint noted when the log was founded. A key that was replaced cannot seal later
segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from appliance.audit.keys import SealKey, fingerprint
from appliance.audit.signed import peek_line, read_line, sign_line
from appliance.errors import StateError

FILE_NAME: Final = "seal-keys.json"
FILE_BYTES_MAX: Final = 4 * 2**20


class SealKeyEntry(Struct, frozen=True, kw_only=True):
    """public: hex. from_segment: the first it seals. signed_by: id of the key before, or its own."""

    key_id: str
    public: str
    from_segment: int
    signed_by: str


class SealKeyChain:
    """The entries of one file, each proven by the one before. Immutable."""

    def __init__(self, entries: Sequence[SealKeyEntry], data: bytes) -> None:
        self._entries = tuple(entries)
        self.data = data

    @classmethod
    def found(cls, key: SealKey, from_segment: int = 1) -> SealKeyChain:
        """A chain of one key."""
        entry = SealKeyEntry(
            key_id=key.key_id, public=key.public_bytes.hex(), from_segment=from_segment, signed_by=key.key_id
        )
        return cls([entry], sign_line(entry, key))

    @classmethod
    def decode(cls, data: bytes) -> SealKeyChain:
        """Raises StateError that names the entry at fault."""
        entries: list[SealKeyEntry] = []
        for number, line in enumerate(data.splitlines(keepends=True), start=1):
            entry = peek_line(line, SealKeyEntry)
            before = entries[-1] if entries else entry
            if entry is None or before is None or not _follows(entry, before, line):
                raise StateError(f"{FILE_NAME}: entry {number} is not signed by the key before it: it was changed")
            if entries and entry.from_segment <= before.from_segment:
                raise StateError(f"{FILE_NAME}: entry {number} does not begin after the one before it")
            entries.append(entry)
        if not entries:
            raise StateError(f"{FILE_NAME} is empty; restore it from a backup")
        return cls(entries, data)

    def replaced_by(self, new: SealKey, old: SealKey, from_segment: int) -> SealKeyChain:
        """The chain after the last act of `old`: from `from_segment` on, `new` seals."""
        assert old.key_id == self.newest.key_id and from_segment > self.newest.from_segment
        entry = SealKeyEntry(
            key_id=new.key_id, public=new.public_bytes.hex(), from_segment=from_segment, signed_by=old.key_id
        )
        return SealKeyChain((*self._entries, entry), self.data + sign_line(entry, old))

    @property
    def first(self) -> SealKeyEntry:
        """The key that an auditor knows."""
        return self._entries[0]

    @property
    def newest(self) -> SealKeyEntry:
        """The key that seals now."""
        return self._entries[-1]

    def public_for(self, segment: int) -> bytes | None:
        """Public half of the key that may seal `segment`."""
        for entry in reversed(self._entries):
            if entry.from_segment <= segment:
                return bytes.fromhex(entry.public)
        return None


def _follows(entry: SealKeyEntry, before: SealKeyEntry, line: bytes) -> bool:
    try:
        public, signer = bytes.fromhex(entry.public), bytes.fromhex(before.public)
    except ValueError:
        return False
    return (
        entry.signed_by == before.key_id
        and fingerprint(public) == entry.key_id
        and read_line(line, SealKeyEntry, signer) is not None
    )
