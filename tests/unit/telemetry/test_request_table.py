"""appliance.telemetry.request_table: every field of a record comes back from its row."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.store.connection import open_reader, open_writer
from appliance.telemetry.request_record import AnswerEvidence, RequestRecord
from appliance.telemetry.request_table import BEFORE, FILE, MIGRATIONS, SELECTED, insert, record_of
from tests.unit.telemetry.making import record, write

FULL = record(
    7,
    time=1_763_600_000.123456,
    address="fd00::7",
    outcome="failed",
    status=503,
    total_seconds=12.345678,
    principal="财务部-报表",
    key_id="k_1",
    model="qwen",
    alias="chat",
    fallback="model",
    failed_models=("a", "b"),
    mirrored=True,
    stream=False,
    error_code="queue_full",
    finish_reason="length",
    ttft_seconds=0.25,
    queue_seconds=0.0,
    prefill_seconds=0.125,
    decode_seconds=11.5,
    attempts=2,
    system_fingerprint="fp_1",
    trace_id="0f" * 16,
    evidence=AnswerEvidence(seed=3, sampling={"top_k": 5, "min_p": 0.5, "ignore_eos": True}, withheld={"stop": 1}),
)


def stored(path: Path) -> list[RequestRecord]:
    with open_reader(path, MIGRATIONS) as connection:
        return [record_of(row) for row in connection.execute(f"SELECT {SELECTED} FROM requests ORDER BY seq")]


def test_every_field_comes_back(tmp_path: Path) -> None:
    assert all(
        getattr(FULL, name) != getattr(record(), name)
        for name in RequestRecord.__struct_fields__
        if name not in ("method", "path", "prompt_tokens", "cached_tokens", "completion_tokens")
    )
    records = [record(), FULL, record(2, path="/x\x00\u202ey", address="unix")]
    assert stored(write(tmp_path, *records)) == records


def test_rows_leave_room_for_those_before(tmp_path: Path) -> None:
    path = write(tmp_path, record(1))
    connection = open_writer(path, MIGRATIONS, check=True)
    insert(connection, record(0), 1)
    insert(connection, record(2))
    assert [row[0] for row in connection.execute("SELECT seq FROM requests ORDER BY seq")] == [
        1,
        BEFORE + 1,
        BEFORE + 2,
    ]
    connection.close()
    assert stored(path) == [record(0), record(1), record(2)]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path, record(path="\ud800"))
    assert stored(tmp_path / FILE) == []
