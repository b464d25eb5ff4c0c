"""appliance.telemetry.request_takeover: each record of the old files once, in their order, whatever happens."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from appliance.store.connection import Connection, open_reader, open_writer, transaction
from appliance.telemetry.request_table import FILE, MIGRATIONS
from appliance.telemetry.request_takeover import TakeOver
from tests.unit.telemetry.making import record, write


def lines(path: Path, *numbers: int, end: bytes = b"") -> None:
    path.write_bytes(b"".join(msgspec.json.encode(record(number)) + b"\n" for number in numbers) + end)


def numbers(path: Path) -> list[int]:
    with open_reader(path, MIGRATIONS) as connection:
        return [int(row[0][1:]) for row in connection.execute("SELECT id FROM requests ORDER BY seq")]


def opened(folder: Path) -> Connection:
    return open_writer(folder / FILE, MIGRATIONS, check=True)


def take_all(folder: Path, read_bytes: int, oldest: float = 0) -> None:
    connection, take_over, more = opened(folder), TakeOver(folder, read_bytes), True
    while more:
        with transaction(connection):
            more = take_over.step(connection, oldest)
    connection.close()


@pytest.mark.parametrize("read_bytes", [1, 100, 300, 1000, 2**20])
def test_the_oldest_file_comes_first_and_all_of_it(tmp_path: Path, read_bytes: int) -> None:
    write(tmp_path, record(100))
    lines(tmp_path / "requests.jsonl.10", 1, 2)
    lines(tmp_path / "requests.jsonl.2", 3, 4)
    lines(tmp_path / "requests.jsonl", 5, 6)
    lines(tmp_path / "requests.jsonl.old", 7)
    take_all(tmp_path, read_bytes)
    assert numbers(tmp_path / FILE) == ([1, 2, 3, 4, 5, 6, 100] if read_bytes > 200 else [100])
    assert sorted(path.name for path in tmp_path.glob("*.jsonl*")) == ["requests.jsonl.old"]


def test_damage_and_what_is_too_old_are_passed_over(tmp_path: Path) -> None:
    lines(tmp_path / "requests.jsonl", 1, 2, 3, end=b'no record\n{"id":"r9"}\n\xff\n{"id":"r')
    take_all(tmp_path, 2**20, oldest=2)
    assert numbers(tmp_path / FILE) == [2, 3]


def test_a_crash_neither_loses_nor_doubles_a_record(tmp_path: Path) -> None:
    lines(tmp_path / "requests.jsonl", *range(20))
    for step in range(100):
        connection, take_over = opened(tmp_path), TakeOver(tmp_path, 500)
        try:
            with transaction(connection):
                more = take_over.step(connection, 0)
                if step % 2 == 0:
                    raise RuntimeError
        except RuntimeError:
            more = True
        connection.close()
        if not more:
            break
    assert numbers(tmp_path / FILE) == list(range(20))
    assert not (tmp_path / "requests.jsonl").exists()


def test_a_file_that_cannot_be_read_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines(tmp_path / "other", 1)
    (tmp_path / "requests.jsonl").symlink_to(tmp_path / "other")
    with caplog.at_level(logging.INFO):
        take_all(tmp_path, 2**20)
    assert (tmp_path / "requests.jsonl").is_symlink() and numbers(tmp_path / FILE) == []
    assert "cannot be taken over" in caplog.text


def test_where_there_is_none_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        take_all(tmp_path, 2**20)
    assert caplog.text == ""
