"""Lists as files."""

from __future__ import annotations

import csv
import io
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ApplianceError
from tui.export import as_csv, as_jsonl, write_new
from tui.source import LogLine


def test_formulas_are_text_and_unknown_is_empty() -> None:
    made = as_csv(("A", "B"), [("=1+1", "-"), ("@x", "财务"), ("-2", "a,b")])
    assert made.startswith(b"\xef\xbb\xbf")
    assert list(csv.reader(io.StringIO(made.decode("utf-8-sig")))) == [
        ["A", "B"],
        ["'=1+1", ""],
        ["'@x", "财务"],
        ["'-2", "a,b"],
    ]


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_no_cell_is_a_formula(cells: list[str]) -> None:
    rows = list(csv.reader(io.StringIO(as_csv(cells, [cells]).decode("utf-8-sig"), newline="")))
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in rows[1])


def test_rows_are_whole_as_json() -> None:
    line = LogLine(time=1.5, level="info", logger="daemon", message="ready")
    assert msgspec.json.decode(as_jsonl([line]), type=LogLine) == line


def test_a_file_is_its_owners_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_new(path, b"1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ApplianceError, match="File exists"):
        write_new(path, b"2")
    assert path.read_bytes() == b"1"
