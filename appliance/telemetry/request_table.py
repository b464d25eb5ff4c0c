"""The request log's tables, and a RequestRecord as a row of them. Blocking.

A row is narrow, because a filter that no index serves reads all of them: names have numbers, times are microseconds,
and an answer's evidence, which no filter looks at, lies in a table of its own. Rows are numbered as they are written;
BEFORE numbers are left for the records of an older release's log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from appliance.store.connection import Connection, Migrations
from appliance.telemetry import key_hours
from appliance.telemetry.request_columns import micros, packed_address, seconds, unpacked_address
from appliance.telemetry.request_record import AnswerEvidence, RequestRecord

FILE: Final = "requests.db"
BEFORE: Final = 2**23

# Columns with the number of a name, and the record's fields that they hold.
_NAMES: Final[Mapping[str, str]] = {
    "outcome": "outcome",
    "model": "model",
    "alias": "alias",
    "principal": "principal",
    "key_id": "key_id",
    "error": "error_code",
    "finish": "finish_reason",
    "fallback": "fallback",
    "fingerprint": "system_fingerprint",
}
_SECONDS: Final[Mapping[str, str]] = {
    "total": "total_seconds",
    "ttft": "ttft_seconds",
    "queue": "queue_seconds",
    "prefill": "prefill_seconds",
    "decode": "decode_seconds",
}
_PLAIN: Final[Mapping[str, str]] = {
    "status": "status",
    "prompt": "prompt_tokens",
    "cached": "cached_tokens",
    "completion": "completion_tokens",
    "attempts": "attempts",
    "stream": "stream",
    "mirrored": "mirrored",
    "method": "method",
    "path": "path",
    "id": "id",
    "trace_id": "trace_id",
}
# What filters ask for; the last ones are of columns that most rows have nothing in.
_INDEXED: Final = (
    *("time", "status", "outcome", "model", "principal", "key_id"),
    *("address", "total", "id"),
)
_SPARSE: Final = ("alias", "error", "finish", "ttft")

MIGRATIONS: Final[Migrations] = (
    (
        "CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
        # What is asked for most comes first: the end of a row is read only where it is wanted.
        """
        CREATE TABLE requests (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            time INTEGER NOT NULL,
            status INTEGER NOT NULL,
            outcome INTEGER NOT NULL,
            model INTEGER,
            alias INTEGER,
            principal INTEGER,
            key_id INTEGER,
            error INTEGER,
            finish INTEGER,
            address BLOB NOT NULL,
            total INTEGER NOT NULL,
            ttft INTEGER,
            queue INTEGER,
            prompt INTEGER NOT NULL,
            cached INTEGER NOT NULL,
            completion INTEGER NOT NULL,
            stream INTEGER,
            mirrored INTEGER NOT NULL,
            id TEXT NOT NULL,
            path TEXT NOT NULL,
            method TEXT NOT NULL,
            prefill INTEGER,
            decode INTEGER,
            attempts INTEGER NOT NULL,
            fallback INTEGER,
            fingerprint INTEGER,
            failed_models INTEGER
        ) STRICT
        """,
        *(f"CREATE INDEX requests_{column} ON requests ({column})" for column in _INDEXED),
        *(f"CREATE INDEX requests_{column} ON requests ({column}) WHERE {column} IS NOT NULL" for column in _SPARSE),
        "CREATE TABLE evidence (seq INTEGER PRIMARY KEY, evidence TEXT NOT NULL) STRICT",
        f"INSERT INTO sqlite_sequence (name, seq) VALUES ('requests', {BEFORE})",
        # How far the files of an older release's log have been taken over.
        "CREATE TABLE taken_over (file TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT",
    ),
    ("ALTER TABLE requests ADD COLUMN trace_id TEXT",),
    key_hours.CREATE,
)

_NUMBER_OF_NAME: Final = "(SELECT id FROM names WHERE text = ?)"
_COLUMNS: Final = ("seq", "time", "address", *_SECONDS, *_PLAIN, *_NAMES, "failed_models")
_INSERT: Final = "INSERT INTO requests ({}) VALUES ({})".format(
    ", ".join(_COLUMNS),
    ", ".join(_NUMBER_OF_NAME if column in _NAMES or column == "failed_models" else "?" for column in _COLUMNS),
)
# What `record_of` reads, for a SELECT from requests.
SELECTED: Final = ", ".join(
    [
        *(f"requests.{column}" for column in ("seq", "time", "address", *_SECONDS, *_PLAIN)),
        *(f"(SELECT text FROM names WHERE id = requests.{column})" for column in (*_NAMES, "failed_models")),
        "(SELECT evidence FROM evidence WHERE evidence.seq = requests.seq)",
    ]
)
_encode: Final = msgspec.json.Encoder().encode
_evidence: Final = msgspec.json.Decoder(AnswerEvidence)
_texts: Final = msgspec.json.Decoder(tuple[str, ...])


def insert(connection: Connection, record: RequestRecord, seq: int | None = None) -> None:
    """Adds a row. seq: None for the next number. Raises sqlite3.Error, or UnicodeEncodeError for what is no text."""
    failed = _encode(record.failed_models).decode() if record.failed_models else None
    names = [*(getattr(record, field) for field in _NAMES.values()), failed]
    known = [(name,) for name in names if name is not None]
    connection.executemany("INSERT OR IGNORE INTO names (text) VALUES (?)", known)
    times = (getattr(record, field) for field in _SECONDS.values())
    row = (
        seq,
        micros(record.time),
        packed_address(record.address),
        *(None if value is None else micros(value) for value in times),
        *(getattr(record, field) for field in _PLAIN.values()),
        *names,
    )
    number = connection.execute(_INSERT, row).lastrowid
    key_hours.count(connection, record)
    if record.evidence is not None:
        connection.execute("INSERT INTO evidence VALUES (?, ?)", (number, _encode(record.evidence).decode()))


def record_of(row: Sequence[Any]) -> RequestRecord:
    """A row of SELECTED; its first column is the row's number."""
    _, time, address, *rest = row
    times, rest = rest[: len(_SECONDS)], rest[len(_SECONDS) :]
    plain, rest = rest[: len(_PLAIN)], rest[len(_PLAIN) :]
    names, (failed, evidence) = rest[: len(_NAMES)], rest[len(_NAMES) :]
    fields: dict[str, Any] = dict(zip(_PLAIN.values(), plain, strict=True))
    fields |= zip(_NAMES.values(), names, strict=True)
    fields |= {
        field: None if value is None else seconds(value) for field, value in zip(_SECONDS.values(), times, strict=True)
    }
    stream = fields.pop("stream")
    return RequestRecord(
        **{**fields, "mirrored": bool(fields["mirrored"])},
        time=seconds(time),
        address=unpacked_address(address),
        stream=None if stream is None else bool(stream),
        failed_models=() if failed is None else _texts.decode(failed),
        evidence=None if evidence is None else _evidence.decode(evidence),
    )
