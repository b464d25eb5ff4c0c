"""How snapshots are recorded: three series, each coarser and kept for longer, in compressed blocks of a database.

A block holds the snapshots of some minutes as JSON lines, oldest first. Every line begins with its time, so that
whoever looks for some moments decodes no other line.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from appliance.store.connection import Connection, Migrations, figure, used_bytes

FILE: Final = "recorder.db"
WHAT: Final = "flight recorder"
MIGRATIONS: Final[Migrations] = (
    (
        "CREATE TABLE blocks (series INTEGER, first INTEGER, last INTEGER, data BLOB,"
        " PRIMARY KEY (series, first, last)) WITHOUT ROWID",
    ),
)
# As msgspec writes a Snapshot.
_TIME: Final = b'{"time":'
_BLOCK_BYTES_MAX: Final = 64 * 2**20
_MILLISECONDS: Final = 1000
_LEVEL: Final = 6


class Series(Struct, frozen=True):
    """One snapshot each `seconds`, kept for keep_seconds; per_block of them make a block."""

    seconds: int
    keep_seconds: int
    per_block: int


SERIES: Final = (
    Series(seconds=1, keep_seconds=86_400, per_block=60),
    Series(seconds=10, keep_seconds=7 * 86_400, per_block=30),
    Series(seconds=60, keep_seconds=90 * 86_400, per_block=30),
)


def time_of(line: bytes) -> float:
    """When a recorded snapshot was taken. Raises ValueError for what is none."""
    if not line.startswith(_TIME):
        raise ValueError("not a snapshot")
    return float(line[len(_TIME) : line.index(b",")])


def insert(connection: Connection, series: Series, lines: Sequence[bytes]) -> None:
    """Writes a block. Compressing it takes some milliseconds: for the writer's thread."""
    data = zlib.compress(b"\n".join(lines), _LEVEL)
    row = (series.seconds, _milliseconds(time_of(lines[0])), _milliseconds(time_of(lines[-1])), data)
    connection.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)", row)


def lines_between(connection: Connection, series: Series, since: float, until: float) -> Iterator[bytes]:
    """The recorded snapshots of a series from `since` to `until`, oldest first. What cannot be read is left out."""
    # The clock may have been set back within a block: what it says of itself only chooses it.
    rows = connection.execute(
        "SELECT data FROM blocks WHERE series = ? AND first <= ? AND last >= ? ORDER BY first",
        (series.seconds, _milliseconds(until), _milliseconds(since)),
    )
    for (data,) in rows:
        yield from within(_unpacked(data), since, until)


def within(lines: Iterable[bytes], since: float, until: float) -> Iterator[bytes]:
    """Those of these times."""
    for line in lines:
        try:
            time = time_of(line)
        except ValueError:
            continue
        if since <= time <= until:
            yield line


def prune(connection: Connection, now: float, bytes_max: int) -> bool:
    """Removes what is kept no longer, and the oldest of the finest series where all take too much. Whether there may
    be more.
    """
    for series in SERIES:
        connection.execute(
            "DELETE FROM blocks WHERE series = ? AND last < ?",
            (series.seconds, _milliseconds(now - series.keep_seconds)),
        )
    more = False
    if used_bytes(connection) > bytes_max:
        oldest = "SELECT series, first, last FROM blocks ORDER BY series, first LIMIT 60"
        rows = connection.execute(oldest).fetchall()
        connection.executemany("DELETE FROM blocks WHERE series = ? AND first = ? AND last = ?", rows)
        more = bool(rows)
    if figure(connection, "freelist_count") > figure(connection, "page_count") // 4:
        connection.execute("PRAGMA incremental_vacuum(500)").fetchall()
    return more


def _unpacked(data: bytes) -> list[bytes]:
    unpacker = zlib.decompressobj()
    try:
        return unpacker.decompress(data, _BLOCK_BYTES_MAX).split(b"\n")
    except zlib.error:
        return []


def _milliseconds(seconds: float) -> int:
    return round(seconds * _MILLISECONDS)
