"""The anchor: a file outside the appliance's disk that knows where the chain was, minute by minute.

It alone shows that the newest records, or the whole folder, were put back to an earlier state. One JSON line each:
`{"hash":…,"seq":…,"ts":…}`.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.audit.record import canonical
from appliance.state_dir import append_whole

CHECKPOINTS_MAX: Final = 1_000_000
_LINE_BYTES_MAX: Final = 512


class Checkpoint(Struct, frozen=True, gc=False):
    """The head of the chain. hash: SHA-256 of the body of record `seq`, hex."""

    seq: int
    hash: str
    ts: str


def append_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Adds a line, durably. Raises OSError. A removable disk may make this wait."""
    append_whole(path, canonical(checkpoint) + b"\n")


def read_checkpoints(path: Path) -> tuple[list[Checkpoint], int]:
    """The newest CHECKPOINTS_MAX, oldest first, and how many lines could not be read. Raises OSError."""
    found: deque[Checkpoint] = deque(maxlen=CHECKPOINTS_MAX)
    unreadable = 0
    decoder = msgspec.json.Decoder(Checkpoint)
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES_MAX):
            try:
                found.append(decoder.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                unreadable += 1
    return list(found), unreadable


def newest_checkpoint(path: Path) -> Checkpoint | None:
    """The last whole line; None without one. Raises OSError."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4 * _LINE_BYTES_MAX))
        tail = file.read()
    for line in reversed(tail.splitlines()):
        try:
            return msgspec.json.decode(line, type=Checkpoint)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return None
