"""appliance.telemetry.key_hours: a day of a key adds up, other keys and older hours aside."""

from __future__ import annotations

from pathlib import Path

from appliance.store.connection import Connection, open_reader, open_writer, transaction
from appliance.store.database import DatabaseFile
from appliance.telemetry.key_hours import KeyUsage, usage_of_keys
from appliance.telemetry.request_reader import RequestReader
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.request_retention import prune
from appliance.telemetry.request_table import MIGRATIONS
from tests.unit.telemetry.making import record, write

HOUR = 3600
NOW = 100 * HOUR + 1800


def at(hours_ago: float, key: str | None = "k1", **fields: object) -> RequestRecord:
    return record(int(NOW - hours_ago * HOUR), key_id=key, **fields)


def used(path: Path, *kids: str, now: float = NOW) -> dict[str, KeyUsage]:
    with open_reader(path, MIGRATIONS) as connection:
        return usage_of_keys(connection, kids, now)


def test_a_day_adds_up(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        at(0),
        at(1, outcome="refused", status=429, prompt_tokens=0, completion_tokens=0),
        at(23, outcome="failed", status=500, completion_tokens=1),
        at(24),
        at(0, mirrored=True),
        at(0, "k2", prompt_tokens=7),
        at(0, None),
        at(0, "k3"),
    )
    assert used(path, "k1", "k2", "none") == {
        "k1": KeyUsage(requests=3, refused=1, failed=1, prompt_tokens=20, completion_tokens=6),
        "k2": KeyUsage(requests=1, prompt_tokens=7, completion_tokens=5),
    }
    assert used(path, "k1", now=NOW + HOUR)["k1"].requests == 2
    assert used(path) == {}


def test_a_log_of_an_older_release_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path, at(0), at(30), at(2, outcome="refused"), at(1, mirrored=True))
    connection = open_writer(path, MIGRATIONS, check=True)
    with transaction(connection):
        connection.execute("DROP TABLE key_hours")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
    connection.close()
    open_writer(path, MIGRATIONS, check=True).close()
    assert used(path, "k1") == {"k1": KeyUsage(requests=2, refused=1, prompt_tokens=20, completion_tokens=10)}


def test_what_is_older_than_a_day_goes_in_small_steps(tmp_path: Path) -> None:
    path = write(tmp_path, *(at(30, f"t{number}") for number in range(450)), at(1), at(23, "k2"))
    connection = open_writer(path, MIGRATIONS, check=True)
    steps = 1
    while _pruned(connection):
        steps += 1
    assert steps == 3
    assert connection.execute("SELECT count(*) FROM key_hours").fetchone() == (2,)
    connection.close()
    assert sorted(used(path, "k1", "k2")) == ["k1", "k2"]


def _pruned(connection: Connection) -> bool:
    with transaction(connection):
        return prune(connection, now=NOW, retention_days=1000, bytes_max=2**30)


def test_many_keys_are_asked_for_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, *(at(number % 24, f"t{number // 4}") for number in range(5000)))
    reader = RequestReader(DatabaseFile(path, MIGRATIONS, what="log"), lambda: NOW)
    found = reader.usage_of_keys([f"t{number}" for number in range(1000)])
    assert sum(one.requests for one in found.values()) == 4000
