"""appliance.telemetry.request_log: what is filed is found; old files and old records go."""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.telemetry.request_filter import parse
from appliance.telemetry.request_log import RequestLog
from appliance.telemetry.request_reader import RequestReader
from tests.unit.telemetry.making import record
from tests.waiting import eventually


def opened(folder: Path, **settings: float) -> RequestLog:
    given = {"retention_days": 1000.0, "bytes_max": 2**30, **settings}
    return RequestLog(
        folder, retention_days=given["retention_days"], bytes_max=int(given["bytes_max"]), clock=lambda: 86_400.0
    )


def test_what_is_filed_is_found(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(50):
        log.add(record(number))
    page = log.reader.page(parse(""), limit=100)
    assert page.records == [record(number) for number in range(49, -1, -1)]
    assert page.before is None
    assert log.reader.find(["no", "r7"]) == record(7)
    log.close()
    assert log.lost == 0
    assert RequestReader.of_folder(tmp_path).find(["r7"]) == record(7)
    assert (tmp_path / "requests.db").stat().st_mode & 0o777 == 0o600


def test_old_files_are_taken_over_and_old_records_removed(tmp_path: Path) -> None:
    lines = b"".join(msgspec.json.encode(record(number)) + b"\n" for number in range(0, 86_400, 100))
    (tmp_path / "requests.jsonl").write_bytes(lines)
    log = opened(tmp_path, retention_days=0.5)
    log.add(record(1))
    log.add(record(90_000))
    wanted = [90_000, *range(86_300, 43_100, -100)]
    ids = [f"r{number}" for number in wanted]
    eventually(lambda: [one.id for page in log.reader.all(parse("")) for one in page] == ids)
    eventually(lambda: not (tmp_path / "requests.jsonl").exists())
    log.close()
