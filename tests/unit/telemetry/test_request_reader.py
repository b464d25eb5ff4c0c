"""appliance.telemetry.request_reader: a log that nobody writes is read too."""

from __future__ import annotations

from pathlib import Path

from appliance.telemetry.request_filter import parse
from appliance.telemetry.request_query import PAGE_MAX
from appliance.telemetry.request_reader import RequestReader
from tests.unit.telemetry.making import record, write


def test_all_of_it_comes_page_by_page(tmp_path: Path) -> None:
    write(tmp_path, *(record(number) for number in range(PAGE_MAX + 5)))
    pages = list(RequestReader.of_folder(tmp_path).all(parse("")))
    assert [len(page) for page in pages] == [PAGE_MAX, 5]
    assert [one.id for page in pages for one in page] == [f"r{number}" for number in range(PAGE_MAX + 4, -1, -1)]


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    reader = RequestReader.of_folder(tmp_path)
    assert (reader.find(["a"]), reader.page(parse(""), limit=5).records, reader.usage(0, 1, ("model",))) == (
        None,
        (),
        [],
    )
    assert list(tmp_path.iterdir()) == []


def test_its_clock_is_what_a_filter_counts_back_from(tmp_path: Path) -> None:
    write(tmp_path, record(10), record(100))
    reader = RequestReader(RequestReader.of_folder(tmp_path)._source, clock=lambda: 110.0)
    assert [one.id for one in reader.page(parse("since:20s"), limit=5).records] == ["r100"]
