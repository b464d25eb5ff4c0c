"""Reading one segment through a Walker: how far it is whole, and what is wrong then."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance.audit.chain import Walker
from appliance.audit.record import LINE_BYTES_MAX, StoredRecord, decode_body, split_line

OPENED: Final = "audit.segment"


class Opening(Struct, frozen=True):
    """What the first record of a segment says of it. founded: minute since 1970."""

    segment: int
    founded: int
    verification_key: str
    previous_seal: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """lines: whole ones, good or not. records: good ones before the first bad line. first_ts, last_ts: of these.

    whole_bytes: without a torn end. torn: bytes after the last line end. broken_line: counts from 1; None where the
    segment is whole. sha256, size: of everything.
    """

    records: int
    lines: int
    first_ts: str | None
    last_ts: str | None
    whole_bytes: int
    torn: bytes
    broken_line: int | None
    broken: str | None
    sha256: str
    size: int


def read_opening(line: bytes) -> Opening | None:
    """From the first line of a segment; None where it is none."""
    parts = split_line(line)
    try:
        record = None if parts is None else decode_body(parts[0])
    except ValueError:
        return None
    return None if record is None or record.action != OPENED else _opening(record)


def scan(lines: Iterable[bytes], walker: Walker, pins: Mapping[int, str]) -> Scanned:
    """Reads all lines; the walker stops at the first bad one.

    pins: what is known from elsewhere: sequence number to head of the chain.
    """
    digest = hashlib.sha256()
    number = records = size = 0
    first_ts = last_ts = broken = None
    broken_line: int | None = None
    torn = b""
    for line in lines:
        digest.update(line)
        size += len(line)
        if line[-1:] != b"\n" and len(line) < LINE_BYTES_MAX:
            torn = line  # only the last one can be
            break
        number += 1
        if broken is not None:
            continue
        broken = walker.step(line)
        if broken is None:
            records += 1
            last_ts = walker.ts
            first_ts = first_ts or last_ts
            known = pins.get(walker.link.seq)
            if known is not None and known != walker.link.head:
                broken = "is not the record that was noted elsewhere under its number: the log was rewritten"
        if broken is not None:
            broken_line = number
    return Scanned(
        records=records,
        lines=number,
        first_ts=first_ts,
        last_ts=last_ts,
        whole_bytes=size - len(torn),
        torn=torn,
        broken_line=broken_line,
        broken=broken,
        sha256=digest.hexdigest(),
        size=size,
    )


def lines_of_file(path: Path) -> Iterator[bytes]:
    """The lines of a plain segment. Raises OSError."""
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES_MAX):
            yield line


def lines_of_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of an unpacked segment."""
    for piece in pieces:
        yield from BytesIO(piece)


def _opening(record: StoredRecord) -> Opening | None:
    details = record.details
    segment, founded = details.get("segment"), details.get("founded")
    key, seal = details.get("verification_key"), details.get("previous_seal")
    if isinstance(segment, int) and isinstance(founded, int) and isinstance(key, str) and isinstance(seal, str):
        return Opening(segment, founded, key, seal)
    return None
