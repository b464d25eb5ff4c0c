"""Reading records for people: a range for export, the newest ones for a look. No check of the chain; see verify.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance.audit.packing import unpack, unpack_backwards
from appliance.audit.record import Outcome, StoredRecord, decode_body, format_time, split_line, to_microseconds
from appliance.audit.scan import lines_of_file
from appliance.audit.seals import SEAL_BYTES_MAX, Seal
from appliance.audit.segments import Listing, SegmentFiles
from appliance.audit.signed import peek_line
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher

_BLOCK_BYTES: Final = 2**20


class RecordFilter(Struct, frozen=True, kw_only=True):
    """All that are given must hold. action: the whole of it, or its first words (`key` means `key.rotate`).

    since, until: inclusive and exclusive.
    """

    action: str | None = None
    principal: str | None = None
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, record: StoredRecord) -> bool:
        """Whether the record passes."""
        return (
            (self.action is None or record.action == self.action or record.action.startswith(f"{self.action}."))
            and (self.principal is None or record.actor.principal == self.principal)
            and (self.outcome is None or record.outcome == self.outcome)
            and (self.since is None or record.ts >= format_time(to_microseconds(self.since)))
            and (self.until is None or record.ts < format_time(to_microseconds(self.until)))
        )


EVERYTHING: Final = RecordFilter()


def export(folder: Path, cipher: Cipher | None, wanted: RecordFilter = EVERYTHING) -> Iterator[bytes]:
    """JSON lines, oldest first, each the body of a record as it is stored, so that its hash can be checked.

    Lines that are no records are left out. Blocking, a piece of a segment in memory. Raises StateError for a segment
    that cannot be decrypted, and OSError.
    """
    for files in Listing.of(folder).all_files():
        if not _may_hold(files, wanted):
            continue
        for line in _forwards(files, cipher):
            found = _read(line)
            if found is not None and wanted.takes(found[0]):
                yield found[1] + b"\n"


def tail(
    folder: Path, cipher: Cipher | None, wanted: RecordFilter = EVERYTHING, count: int = 100
) -> list[StoredRecord]:
    """The newest `count` records that pass, newest first. Raises as `export` does."""
    return list(islice(_newest_first(folder, cipher, wanted), count))


def _newest_first(folder: Path, cipher: Cipher | None, wanted: RecordFilter) -> Iterator[StoredRecord]:
    for files in reversed(list(Listing.of(folder).all_files())):
        if not _may_hold(files, wanted):
            continue
        for line in _backwards(files, cipher):
            found = _read(line)
            if found is not None and wanted.takes(found[0]):
                yield found[0]


def _read(line: bytes) -> tuple[StoredRecord, bytes] | None:
    parts = split_line(line)
    try:
        return None if parts is None else (decode_body(parts[0]), parts[0])
    except ValueError:
        return None


def _may_hold(files: SegmentFiles, wanted: RecordFilter) -> bool:
    """Whether a closed segment's times overlap with the wanted ones.

    A record outside its segment's ends, because the clock was set there and back in between, is passed over.
    """
    if wanted.since is None and wanted.until is None:
        return True
    try:
        with files.seal.open("rb") as file:
            seal = peek_line(file.read(SEAL_BYTES_MAX), Seal)
    except FileNotFoundError:
        return True
    if seal is None or seal.first_ts is None or seal.last_ts is None or seal.first_ts > seal.last_ts:
        return True
    too_old = wanted.since is not None and seal.last_ts < format_time(to_microseconds(wanted.since))
    too_new = wanted.until is not None and seal.first_ts >= format_time(to_microseconds(wanted.until))
    return not (too_old or too_new)


def _forwards(files: SegmentFiles, cipher: Cipher | None) -> Iterator[bytes]:
    """Lines of the plain file, or of the encrypted one that replaces it meanwhile."""
    try:
        yield from lines_of_file(files.plain)
        return
    except FileNotFoundError:
        pass
    for piece in unpack(files, _needed(files, cipher)):
        yield from BytesIO(piece)


def _backwards(files: SegmentFiles, cipher: Cipher | None) -> Iterator[bytes]:
    try:
        yield from _lines_backwards(files.plain)
        return
    except FileNotFoundError:
        pass
    for piece in unpack_backwards(files, _needed(files, cipher)):
        yield from reversed(piece.splitlines(keepends=True))


def _needed(files: SegmentFiles, cipher: Cipher | None) -> Cipher:
    if cipher is None:
        raise StateError(f"{files.packed} is encrypted; read it on the appliance")
    return cipher


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Whole lines from the end; an unfinished last one is left out."""
    with path.open("rb") as file:
        place = file.seek(0, os.SEEK_END)
        rest = b""
        while place:
            start = max(0, place - _BLOCK_BYTES)
            file.seek(start)
            block = file.read(place - start) + rest
            place = start
            head, newline, whole = block.partition(b"\n") if start else (b"", b"\n", block)
            rest = head + newline
            yield from (line for line in reversed(whole.splitlines(keepends=True)) if line.endswith(b"\n"))
