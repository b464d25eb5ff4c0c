"""appliance.telemetry.request_retention: days and bytes are kept to, in small steps."""

from __future__ import annotations

from pathlib import Path

from appliance.store.connection import Connection, open_writer, transaction
from appliance.telemetry.request_record import AnswerEvidence
from appliance.telemetry.request_retention import prune
from appliance.telemetry.request_table import FILE, MIGRATIONS, insert
from tests.unit.telemetry.making import record, write

DAY = 86_400


def steps(connection: Connection, now: float, days: float, bytes_max: int) -> int:
    for step in range(1, 2000):
        with transaction(connection):
            if not prune(connection, now=now, retention_days=days, bytes_max=bytes_max):
                return step
    raise AssertionError("there is no end to it")


def numbers(connection: Connection) -> list[int]:
    return [int(row[0][1:]) for row in connection.execute("SELECT id FROM requests ORDER BY seq")]


def test_what_is_old_goes(tmp_path: Path) -> None:
    write(tmp_path, *(record(number, evidence=AnswerEvidence(seed=1)) for number in range(1000)))
    connection = open_writer(tmp_path / FILE, MIGRATIONS, check=True)
    assert steps(connection, DAY + 700, 1, 2**30) == 4
    assert numbers(connection) == list(range(700, 1000))
    assert connection.execute("SELECT count(*) FROM evidence").fetchone() == (300,)
    assert steps(connection, DAY + 700, 1, 2**30) == 1
    connection.close()


def test_the_file_stays_under_its_bytes_while_records_come(tmp_path: Path) -> None:
    bytes_max, filler = 500_000, "x" * 200
    connection = open_writer(tmp_path / FILE, MIGRATIONS, check=True)
    for number in range(0, 2400, 100):
        with transaction(connection):
            for one in range(number, number + 100):
                insert(connection, record(one, path=filler))
        steps(connection, 0, 1, bytes_max)
        connection.execute("PRAGMA wal_checkpoint")
        assert (tmp_path / FILE).stat().st_size <= bytes_max
    kept = numbers(connection)
    assert kept == list(range(2400 - len(kept), 2400)) and len(kept) > 400
    connection.close()


def test_a_file_that_is_too_large_shrinks(tmp_path: Path) -> None:
    write(tmp_path, *(record(number, path="x" * 200) for number in range(1500)))
    connection = open_writer(tmp_path / FILE, MIGRATIONS, check=True)
    assert steps(connection, 0, 1, 300_000) > 3
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / FILE).stat().st_size <= 300_000
    assert numbers(connection)[-1] == 1499
    connection.close()
