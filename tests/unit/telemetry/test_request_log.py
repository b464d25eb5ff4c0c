"""The request log: whole lines, rotation, a disk that refuses, windows of five minutes."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import msgspec
import pytest

from appliance.telemetry.request_log import WINDOWS_MAX, RequestLog, RequestWindows
from appliance.telemetry.request_record import Outcome, RequestRecord


def record(number: int = 0, *, time: float = 0.0, outcome: Outcome = "ok", ttft: float | None = None) -> RequestRecord:
    return RequestRecord(
        id=f"r{number}",
        time=time,
        address="127.0.0.1",
        method="POST",
        path="/v1/completions",
        outcome=outcome,
        status=200,
        total_seconds=1.0,
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=5,
        ttft_seconds=ttft,
    )


def lines(path: Path) -> list[RequestRecord]:
    return [msgspec.json.decode(line, type=RequestRecord) for line in path.read_bytes().splitlines()]


def test_records_are_json_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    log = RequestLog(path, file_bytes_max=2**20, files_max=3)
    for number in range(50):
        log.add(record(number))
    log.close()
    assert lines(path) == [record(number) for number in range(50)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_newest_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    one = len(msgspec.json.encode(record(100))) + 1
    log = RequestLog(path, file_bytes_max=one * 10, files_max=3)
    for number in range(100, 195):
        log.add(record(number))
    log.close()
    kept = [lines(name) for name in (path.with_name("requests.jsonl.2"), path.with_name("requests.jsonl.1"), path)]
    assert [entry.id for file in kept for entry in file] == [f"r{number}" for number in range(170, 195)]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_disk_that_refuses_loses_whole_records_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file-size limit cuts a write short, as a full disk does."""
    path = tmp_path / "requests.jsonl"
    one = len(msgspec.json.encode(record(100))) + 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (one * 5 + one // 2, hard))
    try:
        with caplog.at_level(logging.ERROR):
            log = RequestLog(path, file_bytes_max=2**20, files_max=1)
            for number in range(100, 110):
                log.add(record(number))
            log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry.id for entry in lines(path)] == [f"r{number}" for number in range(100, 105)]
    assert caplog.text.count("cannot be written") == 1


def test_a_missing_folder_is_logged_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = RequestLog(tmp_path / "gone" / "requests.jsonl", file_bytes_max=2**20, files_max=1)
    log.add(record())
    log.close()
    assert "No such file or directory" in caplog.text


def test_windows_close_every_five_minutes() -> None:
    windows = RequestWindows()
    assert windows.add(record(1, time=10, ttft=0.1)) is None
    assert windows.add(record(2, time=200, outcome="refused")) is None
    summary = windows.add(record(3, time=299.5))
    assert summary is not None
    assert (summary.start, summary.requests, summary.refused, summary.failed) == (0, 2, 1, 0)
    assert (summary.prompt_tokens, summary.cached_tokens, summary.completion_tokens) == (20, 8, 10)
    assert (summary.ttft_p50, summary.ttft_p95) == (0.1, 0.1)


def test_windows_are_bounded_and_a_clock_that_steps_back_is_harmless() -> None:
    windows = RequestWindows()
    for number in range(WINDOWS_MAX + 5):
        windows.add(record(number, time=number * 300.0))
    assert [summary.start for summary in windows.closed] == [number * 300.0 for number in range(4, WINDOWS_MAX + 4)]
    assert windows.add(record(time=0)) is None
    assert windows.open is not None and len(windows.open.records) == 2


def test_quantiles_are_by_nearest_rank() -> None:
    windows = RequestWindows()
    for number in range(100):
        windows.add(record(number, ttft=number / 100))
    assert windows.open is not None
    summary = windows.open.summary()
    assert (summary.ttft_p50, summary.ttft_p95) == (0.5, 0.95)
