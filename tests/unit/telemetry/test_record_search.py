"""appliance.telemetry.record_search"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from appliance.telemetry.record_search import find_record
from appliance.telemetry.request_log import RequestLog
from appliance.telemetry.request_record import AnswerEvidence, RequestRecord


def record(id: str, status: int = 200) -> RequestRecord:
    return RequestRecord(
        id=id,
        time=1.0,
        address="127.0.0.1",
        method="POST",
        path="/v1/completions",
        outcome="ok",
        status=status,
        total_seconds=1.0,
        system_fingerprint="fp_x",
        evidence=AnswerEvidence(seed=3, sampling={"top_k": 5, "min_p": 0.5, "ignore_eos": True}),
    )


def write(path: Path, *records: RequestRecord, end: bytes = b"") -> None:
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in records) + end)


def test_what_the_log_wrote_is_found(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    log = RequestLog(path, file_bytes_max=2**12, files_max=50)
    for number in range(300):
        log.add(record(f"r{number}"))
    log.close()
    assert len(list(tmp_path.iterdir())) > 10
    for number in range(300):
        assert find_record(path, [f"r{number}"]) == record(f"r{number}")
    assert find_record(path, ["r300"]) is None
    assert find_record(path, ["r"]) is None


@pytest.mark.parametrize("read_bytes", [1, 7, 100, 1000])
def test_the_newest_one_counts_wherever_reads_begin(tmp_path: Path, read_bytes: int) -> None:
    path = tmp_path / "requests.jsonl"
    write(path.with_name("requests.jsonl.1"), record("a", 201), record("b", 201), record("c", 201))
    write(path, record("a", 202), record("a", 203), record("b", 202), record("x", 200))
    found = {name: one.status for name in "abcx" if (one := find_record(path, [name], read_bytes)) is not None}
    assert found == {"a": 203, "b": 202, "c": 201, "x": 200}
    both = find_record(path, ["a", "b"], read_bytes)
    assert both is not None and both.id == "b"


def test_damage_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    write(path, record("a", 201), end=b'{"id":"a","time":2,\n{"id":"a",')
    found = find_record(path, ["a"])
    assert found is not None and found.status == 201


def test_the_copy_for_a_version_on_trial_is_not_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    write(path, record("a"), replace(record("a", 500), mirrored=True))
    assert find_record(path, ["a"]) == record("a")


def test_an_id_within_a_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b'{"path":{"id":"a","time":1}}\n')
    assert find_record(path, ["a"]) is None


def test_a_record_of_an_older_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(
        b'{"id":"old","time":1.5,"address":"::1","method":"POST","path":"/v1/completions","outcome":"ok","status":200,'
        b'"total_seconds":0.5,"principal":"p","model":"m"}\n'
    )
    found = find_record(path, ["old"])
    assert found is not None and (found.system_fingerprint, found.evidence) == (None, None)


def test_no_log_is_no_record(tmp_path: Path) -> None:
    assert find_record(tmp_path / "requests.jsonl", ["a"]) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "other", record("a"))
    (tmp_path / "requests.jsonl").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=os.strerror(40)):
        find_record(tmp_path / "requests.jsonl", ["a"])
