"""The records that a collector has not got yet. The log itself holds them, so nothing is stored twice. Blocking."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from appliance.audit.packing import unpack
from appliance.audit.record import LINE_BYTES_MAX, StoredRecord, decode_body, split_line
from appliance.audit.scan import lines_of_pieces
from appliance.audit.seals import SEAL_BYTES_MAX, Seal
from appliance.audit.segments import Listing, SegmentFiles
from appliance.audit.signed import peek_line
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher

_log = logging.getLogger(__name__)

READ_RECORDS_MAX: Final = 2000


class Copied(Struct, frozen=True):
    """One record on its way."""

    record: StoredRecord
    body: bytes


class Backlog:
    """Reads from record `seq` + 1 on. One thread at a time.

    seq: the last record that was read or dropped. dropped: how many were passed over because too many waited, or
    because retention had removed them.
    """

    def __init__(self, folder: Path, cipher: Cipher, bytes_max: int, seq: int) -> None:
        self._folder = folder
        self._cipher = cipher
        self._bytes_max = bytes_max
        self._reader: _SegmentReader | None = None
        self.seq = seq
        self.dropped = 0

    def seek(self, seq: int) -> None:
        """Goes back to what follows `seq`."""
        self.close()
        self.seq = seq

    def read(self, until: int) -> list[Copied]:
        """The next records, up to number `until` and READ_RECORDS_MAX of them. Raises StateError and OSError."""
        found: list[Copied] = []
        while self.seq < until and len(found) < READ_RECORDS_MAX:
            line = self._next_line()
            if line is None:
                break
            copied = _read(line)
            if copied is None or copied.record.seq <= self.seq:
                continue
            if copied.record.seq > until:
                assert self._reader is not None
                self._reader.push_back(line)
                break
            self.seq = copied.record.seq
            found.append(copied)
        return found

    def trim(self) -> int:
        """Drops the oldest while more than the bound waits. Returns how many. Raises StateError and OSError."""
        before = self.dropped
        waiting = self._waiting()
        while waiting > self._bytes_max:
            line = self._next_line()
            if line is None:
                break
            waiting -= len(line)
            copied = _read(line)
            if copied is not None and copied.record.seq > self.seq:
                self.seq = copied.record.seq
                self.dropped += 1
        return self.dropped - before

    def close(self) -> None:
        """Lets go of the open file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _next_line(self) -> bytes | None:
        """None where the log has no more at the moment."""
        while True:
            if self._reader is None and not self._open_next(0):
                return None
            assert self._reader is not None
            if (line := self._reader.next_line()) is not None:
                return line
            number = self._reader.files.number
            if Listing.of(self._folder).newest <= number:
                return None
            # Nothing is added to a segment once the next has begun; what came before that is read now.
            if (line := self._reader.next_line()) is not None:
                return line
            self._reader.close()
            self._reader = None
            if not self._open_next(number):
                return None

    def _open_next(self, after: int) -> bool:
        """Opens the oldest segment beyond `after` that holds records beyond `seq`."""
        listing = Listing.of(self._folder)
        for number in sorted(listing.seals | listing.plain):
            files = listing.files(number)
            seal = _seal_of(files) if number in listing.seals else None
            if number <= after or (seal is not None and seal.last_seq <= self.seq):
                continue
            if seal is not None and number not in listing.plain | listing.packed:
                # Retention was faster than the collector.
                self.dropped += min(seal.records, seal.last_seq - self.seq)
                self.seq = seal.last_seq
                continue
            self._reader = _SegmentReader(files, self._cipher)
            return True
        return False

    def _waiting(self) -> int:
        """Bytes of plain records that are not read yet."""
        if self._reader is None and not self._open_next(0):
            return 0
        assert self._reader is not None
        current = self._reader.files.number
        total = -self._reader.bytes_read
        listing = Listing.of(self._folder)
        for files in listing.all_files():
            if files.number >= current:
                seal = _seal_of(files) if files.number in listing.seals else None
                total += files.plain.stat().st_size if seal is None else seal.bytes
        return total


class _SegmentReader:
    def __init__(self, files: SegmentFiles, cipher: Cipher) -> None:
        self.files = files
        self.bytes_read = 0
        self._pushed: bytes | None = None
        self._file: BinaryIO | None = None
        self._unpacked: Iterator[bytes] = iter(())
        try:
            # Stays readable when it is encrypted and removed meanwhile.
            self._file = files.plain.open("rb")
        except FileNotFoundError:
            self._unpacked = lines_of_pieces(unpack(files, cipher))

    def next_line(self) -> bytes | None:
        """A whole line; None where there is none yet."""
        line = self._pushed
        self._pushed = None
        if line is not None:
            return line
        if self._file is None:
            line = next(self._unpacked, None)
        else:
            place = self._file.tell()
            line = self._file.readline(LINE_BYTES_MAX)
            if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                self._file.seek(place)
                return None
        self.bytes_read += 0 if line is None else len(line)
        return line

    def push_back(self, line: bytes) -> None:
        """`next_line` gives it again."""
        self._pushed = line

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _read(line: bytes) -> Copied | None:
    parts = split_line(line)
    try:
        return None if parts is None else Copied(decode_body(parts[0]), parts[0])
    except ValueError:
        return None


def _seal_of(files: SegmentFiles) -> Seal:
    with files.seal.open("rb") as file:
        seal = peek_line(file.read(SEAL_BYTES_MAX), Seal)
    if seal is None:
        raise StateError(f"{files.seal} is no seal; run `appliance audit verify`")
    return seal
