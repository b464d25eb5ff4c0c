"""appliance.telemetry.recorder, history and recording"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.store.connection import open_writer
from appliance.telemetry import history
from appliance.telemetry.history import HistoryReader, series_for, thinned
from appliance.telemetry.recorder import FlightRecorder
from appliance.telemetry.recording import (
    FILE,
    MIGRATIONS,
    SERIES,
    insert,
    lines_between,
    prune,
    time_of,
)
from appliance.telemetry.snapshot import Snapshot

DAY = 86_400.0
NOW = 1_800_000_000.0


def seen(time: float) -> Snapshot:
    return Snapshot(time=time, host_name="h", version="1", started=0.0)


def line(time: float) -> bytes:
    return msgspec.json.encode(seen(time))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], FlightRecorder]]:
    recorders: list[FlightRecorder] = []

    def one() -> FlightRecorder:
        recorders.append(FlightRecorder(tmp_path, bytes_max=2**30, clock=lambda: NOW))
        return recorders[-1]

    yield one
    for recorder in recorders:
        recorder.close()


def times(reader: HistoryReader, since: float, until: float, step: float = 0.0) -> list[float]:
    return [time_of(one) - NOW for one in reader.read(since, until, step).snapshots]


def test_what_is_recorded_is_found_also_by_the_next_run(make: Callable[[], FlightRecorder], tmp_path: Path) -> None:
    recorder = make()
    for second in range(-150, 1):
        recorder.look(seen(NOW + second))
    # Two blocks of a minute, and what waits for the third.
    assert times(recorder.reader, NOW - 125, NOW - 115) == list(range(-125, -114))
    assert times(recorder.reader, NOW - 3, NOW) == [-3, -2, -1, 0]
    recorder.close()
    reader = HistoryReader.of_folder(tmp_path, lambda: NOW)
    assert times(reader, NOW - 150, NOW) == list(range(-150, 1))
    assert times(reader, NOW - 150, NOW, step=10) == list(range(-150, 1, 10))
    assert times(reader, NOW - 150, NOW, step=60)[1:] == [-120, -60, 0]
    decoded = msgspec.json.decode(reader.read(NOW - 1, NOW).snapshots[0], type=Snapshot)
    assert decoded == seen(NOW - 1)


def test_there_is_a_limit_to_an_answer(make: Callable[[], FlightRecorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SNAPSHOTS_MAX", 10)
    recorder = make()
    for second in range(-30, 1):
        recorder.look(seen(NOW + second))
    found = recorder.reader.read(NOW - 30, NOW, 1)
    assert found.step == 3.0 and len(found.snapshots) == 10


def test_without_a_recording_there_is_nothing(tmp_path: Path) -> None:
    assert times(HistoryReader.of_folder(tmp_path, lambda: NOW), NOW - 10, NOW) == []


@pytest.mark.parametrize(
    ("age", "step", "seconds"),
    [
        (60.0, 1.0, 1),
        (60.0, 9.0, 1),
        (60.0, 10.0, 10),
        (60.0, 3600.0, 60),
        (2 * DAY, 1.0, 10),
        (8 * DAY, 1.0, 60),
        (900 * DAY, 1.0, 60),
    ],
)
def test_which_series_answers(age: float, step: float, seconds: int) -> None:
    assert series_for(NOW - age, step, NOW).seconds == seconds


def test_a_clock_that_was_set_back_loses_nothing() -> None:
    lines = [line(NOW), line(NOW + 1), line(NOW - 5), line(NOW - 4)]
    assert list(thinned(lines, 1.0)) == lines


def test_a_damaged_block_is_left_out_alone(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / FILE, MIGRATIONS, check=True)
    insert(connection, SERIES[0], [line(NOW)])
    insert(connection, SERIES[0], [line(NOW + 1)])
    connection.execute("UPDATE blocks SET data = x'00' WHERE first = ?", (round(NOW * 1000),))
    assert list(lines_between(connection, SERIES[0], NOW, NOW + 9)) == [line(NOW + 1)]
    connection.close()


def test_each_series_is_kept_for_its_time_and_all_within_the_limit(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / FILE, MIGRATIONS, check=True)
    for age in (0.0, 2 * DAY, 10 * DAY, 100 * DAY):
        for series in SERIES:
            insert(connection, series, [line(NOW - age)])

    def kept() -> list[tuple[int, float]]:
        rows = connection.execute("SELECT series, first FROM blocks ORDER BY series, first DESC").fetchall()
        return [(series, (NOW - first / 1000) / DAY) for series, first in rows]

    assert not prune(connection, NOW, 2**30)
    assert kept() == [(1, 0), (10, 0), (10, 2), (60, 0), (60, 2), (60, 10)]
    assert prune(connection, NOW, 0)
    assert not prune(connection, NOW, 2**30)
    assert kept() == []
    connection.close()
