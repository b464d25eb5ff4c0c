"""appliance.store.database: jobs in order and together, and a thread that outlives disks and damage."""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import appliance.store.database as database_module
from appliance.errors import StateError
from appliance.store.connection import Connection
from appliance.store.database import BACKLOG_MAX, Database, DatabaseFile

SCHEMA = [("CREATE TABLE a (x INTEGER NOT NULL, filler TEXT) STRICT",)]


def insert(value: object, filler: str = "") -> Callable[[Connection], None]:
    def job(connection: Connection) -> None:
        connection.execute("INSERT INTO a VALUES (?, ?)", (value, filler))

    return job


def values(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT x FROM a ORDER BY rowid")]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "x.db", SCHEMA, what="test log")
    yield database
    database.close()


def test_a_reader_sees_what_was_handed_over_before(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And has the thread hurry: a reader waits for SETTLE_SECONDS at most."""
    monkeypatch.setattr(database_module, "COMMIT_SECONDS", 600.0)
    for number in range(50):
        database.write(insert(number))
        if number % 10 == 9:
            assert database.read(values) == list(range(number + 1))
    assert database.lost == 0


def test_what_was_handed_over_is_there_after_close(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", SCHEMA, what="test log")
    for number in range(2500):
        database.write(insert(number))
    database.close()
    assert [file.name for file in tmp_path.iterdir()] == ["x.db"]
    assert DatabaseFile(tmp_path / "x.db", SCHEMA, what="test log").read(values) == list(range(2500))


def test_a_job_at_fault_is_lost_alone(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    for value in (1, None, "text", "\ud800", 2**70, 2):
        database.write(insert(value))
    assert database.read(values) == [1, 2]
    assert database.lost == 4
    assert caplog.text.count("a record cannot be kept in the test log") == 4


def test_a_damaged_file_is_put_aside_and_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.db").write_bytes(b"damage" * 1000)
    (tmp_path / "x.db.damaged").write_bytes(b"older damage")
    database = Database(tmp_path / "x.db", SCHEMA, what="test log")
    database.write(insert(1))
    assert database.read(values) == [1]
    database.close()
    assert (tmp_path / "x.db.damaged").read_bytes() == b"damage" * 1000
    assert "the test log" in caplog.text and "put aside as x.db.damaged, and a new one is begun" in caplog.text
    assert database.lost == 0


def test_damage_that_a_reader_meets_is_seen_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.db"
    database = Database(path, SCHEMA, what="test log")
    for number in range(1000):
        database.write(insert(number, "x" * 100))
    database.close()
    database = Database(path, SCHEMA, what="test log")
    assert len(database.read(values)) == 1000
    with path.open("r+b") as file:
        file.seek(4 * 4096)
        file.write(b"\xff" * 4096 * 5)
    with pytest.raises(StateError, match="cannot be read"):
        database.read(values)
    database.write(insert(7))
    assert database.read(values) == [7]
    database.close()
    assert "put aside" in caplog.text


def test_a_disk_that_refuses_is_logged_once_and_works_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file-size limit refuses as a full disk does."""
    database = Database(tmp_path / "x.db", SCHEMA, what="test log")
    database.write(insert(1))
    assert database.read(values) == [1]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with caplog.at_level(logging.ERROR):
            for number in range(3):
                database.write(insert(100 + number))
                assert database.read(values) == [1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    database.write(insert(2))
    assert database.read(values) == [1, 2]
    database.close()
    assert caplog.text.count("cannot be written") == 1
    assert "the test log works again; 3 records were lost" in caplog.text
    assert database.lost == 3


def test_a_missing_folder_is_logged_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(tmp_path / "gone" / "x.db", SCHEMA, what="test log")
    database.write(insert(1))
    assert database.read(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    (tmp_path / "gone").mkdir()
    database.write(insert(2))
    assert database.read(values) == [2]
    database.close()
    assert caplog.text.count("No such file or directory") == 1


def test_a_backlog_that_is_full_never_blocks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(tmp_path / "x.db", SCHEMA, what="test log")
    begun, go_on = threading.Event(), threading.Event()

    def wait(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(60)

    database.write(wait)
    assert begun.wait(60)
    for number in range(BACKLOG_MAX + 5):
        database.write(insert(number))
    assert database.lost == 5
    go_on.set()
    database.close()
    assert "5 records were lost: the disk was too slow" in caplog.text
    assert len(DatabaseFile(tmp_path / "x.db", SCHEMA, what="test log").read(values)) == BACKLOG_MAX


def test_a_chore_runs_when_it_is_due_and_survives_its_failure(tmp_path: Path) -> None:
    ran, done = [], threading.Event()

    def chore(connection: Connection) -> float:
        ran.append(values(connection))
        connection.execute("INSERT INTO a VALUES (5, '')")
        if len(ran) == 3:
            done.set()
            return 60
        return 0.01

    database = Database(tmp_path / "x.db", SCHEMA, what="test log", chore=chore)
    assert done.wait(60)
    database.close()
    assert ran == [[], [5], [5, 5]]
