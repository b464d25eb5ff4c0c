"""appliance.telemetry.request_export: files that spreadsheets and programs read, and that do nothing there."""

from __future__ import annotations

import csv
import io

import msgspec

from appliance.telemetry.request_export import csv_header, csv_lines, csv_table, json_lines
from appliance.telemetry.request_record import AnswerEvidence, RequestRecord
from tests.unit.telemetry.making import record


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def test_csv_has_a_mark_a_header_and_a_line_each() -> None:
    one = record(5, principal="财务部", key_id='a "b",c\nd', stream=True, ttft_seconds=0.25, failed_models=("x", "y"))
    data = csv_header() + csv_lines([one, record(6)])
    assert data.startswith(b"\xef\xbb\xbftime,id,")
    first, second = table(data)
    assert (first["time"], first["principal"], first["key_id"]) == (
        "1970-01-01T00:00:05.000+00:00",
        "财务部",
        one.key_id,
    )
    assert (first["stream"], first["ttft_seconds"], first["failed_models"]) == ("yes", "0.25", "x y")
    assert (second["stream"], second["ttft_seconds"], second["mirrored"]) == ("", "", "no")


def test_nothing_is_a_formula() -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        (one,) = table(csv_header() + csv_lines([record(path=text)]))
        assert one["path"] == "'" + text
    assert csv_table([("a", "b"), ("=x", -1.5)]) == b"\xef\xbb\xbfa,b\r\n'=x,-1.5\r\n"


def test_json_lines_are_whole_records() -> None:
    records = [record(1, evidence=AnswerEvidence(seed=1)), record(2)]
    assert [msgspec.json.decode(line, type=RequestRecord) for line in json_lines(records).splitlines()] == records
