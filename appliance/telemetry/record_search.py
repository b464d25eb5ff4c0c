"""Finds one request's record in the files of the request log, newest first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from appliance.telemetry.request_record import RequestRecord

# By default the log holds 640 MiB.
SEARCHED_BYTES_MAX: Final = 16 * 2**30
_FILES_MAX: Final = 1000
READ_BYTES: Final = 2**20
_decoder: Final = msgspec.json.Decoder(RequestRecord)


def find_record(path: Path, ids: Sequence[str], read_bytes: int = READ_BYTES) -> RequestRecord | None:
    """The newest record with one of these ids, mirrored copies aside; None without one.

    path: of the newest file, as the RequestLog has it.

    Blocks for as long as reading the log takes. Raises OSError.
    """
    # As msgspec writes it: the id comes first.
    beginnings = [b'{"id":%b,' % msgspec.json.encode(one) for one in ids]
    left = SEARCHED_BYTES_MAX
    for number in range(_FILES_MAX):
        # A file that is renamed meanwhile comes again under its next name: none is passed over.
        file = path if number == 0 else path.with_name(f"{path.name}.{number}")
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            left -= os.fstat(fd).st_size
            for block in _blocks_backwards(fd, read_bytes):
                if (found := _newest(block, beginnings)) is not None:
                    return found
        finally:
            os.close(fd)
        if left < 0:
            return None
    return None


def _blocks_backwards(fd: int, read_bytes: int) -> Iterator[bytes]:
    """Whole lines, the last ones first; each line is in one block."""
    end, tail = os.fstat(fd).st_size, b""
    while end > 0:
        start = max(0, end - read_bytes)
        block = os.pread(fd, end - start, start) + tail
        end = start
        if start > 0:
            # What precedes the first line end belongs to a line that begins further ahead.
            cut = block.find(b"\n") + 1
            tail = block[:cut] if cut else block
            block = block[cut:] if cut else b""
        yield block


def _newest(block: bytes, beginnings: Sequence[bytes]) -> RequestRecord | None:
    found = [place for beginning in beginnings for place in _places(block, beginning)]
    for at in sorted(found, reverse=True):
        with contextlib.suppress(msgspec.MsgspecError):
            record = _decoder.decode(block[at:].split(b"\n", 1)[0])
            if not record.mirrored:
                return record
    return None


def _places(block: bytes, beginning: bytes) -> Iterator[int]:
    """Where lines begin so."""
    at = block.find(beginning)
    while at >= 0:
        if at == 0 or block[at - 1 : at] == b"\n":
            yield at
        at = block.find(beginning, at + 1)
