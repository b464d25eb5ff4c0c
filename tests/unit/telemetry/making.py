"""RequestRecords for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.store.connection import open_writer, transaction
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.request_table import FILE, MIGRATIONS, insert


def record(number: int = 0, **fields: Any) -> RequestRecord:
    """`r<number>`, that arrived at second `number`."""
    given = {
        "id": f"r{number}",
        "time": float(number),
        "address": "127.0.0.1",
        "method": "POST",
        "path": "/v1/completions",
        "outcome": "ok",
        "status": 200,
        "total_seconds": 1.0,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
    }
    return RequestRecord(**{**given, **fields})


def write(folder: Path, *records: RequestRecord) -> Path:
    """A request log that nobody is writing; its file."""
    connection = open_writer(folder / FILE, MIGRATIONS, check=True)
    with transaction(connection):
        for one in records:
            insert(connection, one)
    connection.close()
    return folder / FILE
