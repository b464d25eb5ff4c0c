"""RequestRecords as files for other programs: CSV that spreadsheets open safely, or JSON lines. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from appliance.telemetry.request_record import RequestRecord

# What a spreadsheet would take for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
# So that spreadsheets read UTF-8.
_BOM: Final = "\ufeff"

_COLUMNS: Final[Mapping[str, Callable[[RequestRecord], object]]] = {
    "time": lambda one: datetime.fromtimestamp(one.time, UTC).isoformat(timespec="milliseconds"),
    "id": lambda one: one.id,
    "status": lambda one: one.status,
    "outcome": lambda one: one.outcome,
    "error": lambda one: one.error_code,
    "finish": lambda one: one.finish_reason,
    "principal": lambda one: one.principal,
    "key_id": lambda one: one.key_id,
    "address": lambda one: one.address,
    "method": lambda one: one.method,
    "path": lambda one: one.path,
    "model": lambda one: one.model,
    "alias": lambda one: one.alias,
    "system_fingerprint": lambda one: one.system_fingerprint,
    "trace_id": lambda one: one.trace_id,
    "stream": lambda one: one.stream,
    "prompt_tokens": lambda one: one.prompt_tokens,
    "cached_tokens": lambda one: one.cached_tokens,
    "completion_tokens": lambda one: one.completion_tokens,
    "total_seconds": lambda one: one.total_seconds,
    "ttft_seconds": lambda one: one.ttft_seconds,
    "queue_seconds": lambda one: one.queue_seconds,
    "prefill_seconds": lambda one: one.prefill_seconds,
    "decode_seconds": lambda one: one.decode_seconds,
    "attempts": lambda one: one.attempts,
    "fallback": lambda one: one.fallback,
    "failed_models": lambda one: " ".join(one.failed_models),
    "mirrored": lambda one: one.mirrored,
}


def csv_header() -> bytes:
    """The first line."""
    return (_BOM + _csv_line(_COLUMNS)).encode()


def csv_lines(records: Iterable[RequestRecord]) -> bytes:
    """One line a record; what is not known is empty."""
    return "".join(_csv_line(of(record) for of in _COLUMNS.values()) for record in records).encode(errors="replace")


def json_lines(records: Iterable[RequestRecord]) -> bytes:
    """One object a record, with the evidence of its answer."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def csv_table(rows: Iterable[Iterable[object]]) -> bytes:
    """The same for any table; its first row names the columns."""
    return (_BOM + "".join(map(_csv_line, rows))).encode(errors="replace")


def _csv_line(values: Iterable[object]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([_cell(value) for value in values])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
