"""appliance.store.connection: a private file, WAL for certain, migrations in order, damage told from trouble."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.store.connection import Damaged, open_reader, open_writer, transaction

FIRST = ("CREATE TABLE a (x INTEGER) STRICT",)
SECOND = ("ALTER TABLE a ADD COLUMN y INTEGER", "UPDATE a SET y = x + 1")


def make(path: Path, *values: int) -> None:
    connection = open_writer(path, [FIRST], check=True)
    with transaction(connection):
        connection.executemany("INSERT INTO a VALUES (?)", [(value,) for value in values])
    connection.close()


def test_the_file_is_ours_alone_and_in_wal_mode(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "x.db", [FIRST], check=True)
    with transaction(connection):
        connection.execute("INSERT INTO a VALUES (1)")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == 3
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()


def test_migrations_follow_on_what_a_file_has_seen(tmp_path: Path) -> None:
    make(tmp_path / "x.db", 1, 2)
    for _ in range(2):
        connection = open_writer(tmp_path / "x.db", [FIRST, SECOND], check=True)
        assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2), (2, 3)]
        connection.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path / "x.db", 1)
    with pytest.raises(sqlite3.OperationalError):
        open_writer(tmp_path / "x.db", [FIRST, (*SECOND, "no SQL")], check=True)
    with open_reader(tmp_path / "x.db", [FIRST]) as connection:
        assert connection.execute("SELECT * FROM a").fetchall() == [(1,)]


def test_a_file_of_a_newer_release_is_not_written(tmp_path: Path) -> None:
    open_writer(tmp_path / "x.db", [FIRST, SECOND], check=True).close()
    with pytest.raises(Damaged, match="is of a newer release"):
        open_writer(tmp_path / "x.db", [FIRST], check=True)


@pytest.mark.parametrize(
    "content", [b"no database, but long enough to be looked at" * 20, b"SQLite format 3\0" + b"x" * 5000]
)
def test_what_is_no_database_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(Damaged, match="is damaged"):
        open_writer(tmp_path / "x.db", [FIRST], check=True)


def test_damage_within_is_found_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    make(path, *range(5000))
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(Damaged, match="is damaged"):
        open_writer(path, [FIRST], check=True)


def test_links_and_other_things_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "other.db")
    (tmp_path / "x.db").symlink_to(tmp_path / "other.db")
    os.mkfifo(tmp_path / "fifo.db")
    for name in ("x.db", "fifo.db"):
        with pytest.raises(OSError):
            open_writer(tmp_path / name, [FIRST], check=True)
        with pytest.raises(StateError, match="not a regular file"), open_reader(tmp_path / name, [FIRST]):
            pass


def test_a_reader_of_nothing_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    with open_reader(tmp_path / "x.db", [FIRST]) as connection:
        assert connection.execute("SELECT * FROM a").fetchall() == []
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_write_and_wants_the_present_schema(tmp_path: Path) -> None:
    make(tmp_path / "x.db", 1)
    with (
        open_reader(tmp_path / "x.db", [FIRST]) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("DELETE FROM a")
    with pytest.raises(StateError, match="another release"), open_reader(tmp_path / "x.db", [FIRST, SECOND]):
        pass
