"""appliance.security.entry_hits"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security import entry_hits
from appliance.security.entry_hits import FORGET_AFTER, HOURS, EntryHits, Hits
from tests.unit.security.making import DAY, HOUR, NOW

OFFICE, LAB = "10.0.0.0/8 *", "192.0.2.0/24 api"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "allow_hits.json"


@pytest.fixture
def hits(path: Path) -> EntryHits:
    return EntryHits(path)


def test_what_was_counted_is_there_after_a_restart(hits: EntryHits, path: Path) -> None:
    hits.keep([OFFICE, LAB], NOW - 3 * DAY)
    for ago in (2 * DAY, HOUR, HOUR, timedelta(0)):
        hits.note(OFFICE, NOW - ago)
    hits.save()
    again = EntryHits(path)
    assert again.of(OFFICE, NOW) == Hits(last_day=3, last=NOW, since=NOW - 3 * DAY)
    assert again.of(LAB, NOW) == Hits(last_day=0, last=None, since=NOW - 3 * DAY)
    assert again.of("another", NOW) is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_has_not_changed_is_not_written(hits: EntryHits, path: Path) -> None:
    hits.keep([OFFICE], NOW)
    asyncio.run(hits.save_aside())
    path.unlink()
    hits.keep([OFFICE], NOW + DAY)
    asyncio.run(hits.save_aside())
    hits.save()
    assert not path.exists()
    hits.note(OFFICE, NOW)
    asyncio.run(hits.save_aside())
    assert path.exists()


@given(st.lists(st.integers(0, 100 * 3600), max_size=30).map(sorted), st.integers(0, 100 * 3600))
def test_the_last_day_is_that_of_whole_hours(times: list[int], asked: int) -> None:
    hits, start = EntryHits(Path("/nonexistent")), NOW.replace(minute=0, second=0)
    for seconds in times:
        hits.note(OFFICE, start + timedelta(seconds=seconds))
    newest = max(times, default=0)
    found = hits.of(OFFICE, start + timedelta(seconds=max(asked, newest)))
    hour = max(asked, newest) // 3600
    assert (0 if found is None else found.last_day) == sum(hour - HOURS < one // 3600 <= hour for one in times)


def test_memory_is_bounded_in_hours_and_in_entries(hits: EntryHits, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        hits.note(OFFICE, NOW + number * HOUR)
    # A clock that was ahead leaves nothing behind.
    hits.note(OFFICE, NOW)
    assert len(hits._entries[OFFICE].hours) == 1
    monkeypatch.setattr(entry_hits, "ENTRIES_MAX", 100)
    for number in range(1000):
        hits.note(f"{number}", NOW + timedelta(seconds=number))
    assert len(hits._entries) <= 100
    assert hits.of("999", NOW) is not None


def test_an_entry_that_is_gone_is_remembered_for_a_while(hits: EntryHits) -> None:
    hits.note(OFFICE, NOW)
    hits.keep([LAB], NOW + FORGET_AFTER)
    assert hits.of(OFFICE, NOW) is not None
    hits.keep([LAB], NOW + FORGET_AFTER + timedelta(seconds=1))
    assert hits.of(OFFICE, NOW) is None
    hits.keep([LAB], NOW + 9 * FORGET_AFTER)
    assert hits.of(LAB, NOW) is not None, "it is listed, hit or not"


def test_no_entry_is_named_nothing(hits: EntryHits) -> None:
    hits.note("", NOW)
    assert hits.of("", NOW) is None


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"a": {}}', b'{"a": {"since": -1}}', b'{"a": {"since": 1, "x": 2}}'])
def test_a_damaged_file_is_begun_anew(path: Path, caplog: pytest.LogCaptureFixture, junk: bytes) -> None:
    path.write_bytes(junk)
    path.chmod(0o600)
    hits = EntryHits(path)
    assert "counted anew" in caplog.text
    hits.note(OFFICE, NOW)
    hits.save()
    assert EntryHits(path).of(OFFICE, NOW) is not None


def test_a_disk_that_fails_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hits = EntryHits(tmp_path / "none" / "hits")
    hits.note(OFFICE, NOW)
    hits.save()
    assert "hits" in caplog.text
    (tmp_path / "none").mkdir()
    hits.save()
    assert EntryHits(tmp_path / "none" / "hits").of(OFFICE, NOW) is not None
