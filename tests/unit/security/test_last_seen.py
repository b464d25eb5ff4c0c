"""appliance.security.last_seen"""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import state_dir
from appliance.security import last_seen
from appliance.security.last_seen import LastSeen
from appliance.state_dir import write_atomic
from tests.unit.security.making import DAY, HERE, HOUR, NOW

V6 = ip_address("2001:db8::1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last_seen.json"


@pytest.fixture
def seen(path: Path) -> LastSeen:
    return LastSeen(path)


def test_what_was_seen_is_there_after_a_restart(seen: LastSeen, path: Path) -> None:
    seen.note_key("kid", NOW)
    seen.note_issuer("ab", "demo", NOW)
    seen.note_address("api", HERE, NOW)
    seen.note_address("a b", V6, NOW)
    seen.save()
    again = LastSeen(path)
    assert again.key("kid") == NOW
    assert again.key("other") is None
    assert again.principals_of("ab", NOW) == ["demo"]
    assert again.addresses(NOW) == [("api", HERE), ("a b", V6)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_came_with_whose_certificate_since_when(seen: LastSeen) -> None:
    for issuer, name, when in (
        ("ab", "b", NOW),
        ("ab", "a", NOW - DAY),
        ("abc", "c", NOW),
        ("ab", "old", NOW - 9 * DAY),
    ):
        seen.note_issuer(issuer, name, when)
    assert seen.principals_of("ab", NOW - DAY) == ["a", "b"]
    assert seen.principals_of("a", NOW - DAY) == []


def test_addresses_of_the_last_day(seen: LastSeen) -> None:
    seen.note_address("api", HERE, NOW - DAY - timedelta(seconds=1))
    seen.note_address("api", V6, NOW - DAY)
    assert seen.addresses(NOW) == [("api", V6)]
    assert seen.addresses(NOW, 2 * DAY) == [("api", HERE), ("api", V6)]


def test_times_are_coarse_and_the_latest_counts_whatever_the_clock_did(seen: LastSeen) -> None:
    seen.note_key("kid", NOW + 9999 * DAY + timedelta(microseconds=7))
    seen.note_key("kid", NOW)
    assert seen.key("kid") == NOW


def test_each_table_is_bounded_and_forgets_the_oldest(seen: LastSeen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_seen, "ENTRIES_MAX", 100)
    for number in range(1000):
        seen.note_key(f"kid-{number}", NOW + number * HOUR)
        seen.note_address("api", ip_address(number), NOW + number * HOUR)
    assert len(seen._seen.keys) <= 100
    assert len(seen._seen.addresses) <= 100
    assert seen.key("kid-999") is not None
    assert seen.key("kid-0") is None
    assert all(seen.key(f"kid-{number}") for number in range(910, 1000))


def test_nothing_is_written_where_nothing_changed(seen: LastSeen, path: Path) -> None:
    seen.save()
    assert not path.exists()
    seen.note_key("kid", NOW)
    seen.save()
    first = path.stat().st_ino
    seen.note_key("kid", NOW)
    seen.save()
    assert path.stat().st_ino == first


def test_what_could_not_be_written_is_written_later(
    seen: LastSeen, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen.note_key("kid", NOW)
    path.mkdir()
    seen.save()
    assert "cannot be written" in caplog.text
    path.rmdir()
    seen.save()
    assert LastSeen(path).key("kid") == NOW


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b'{"keys": {"kid": "yesterday"}}',
    b'{"keys": {"kid": 1.5}}',
    b'{"keys": {"kid": -1}}',
    b'{"keys": {"kid": 1000000000000000000000000}}',
    b'{"keys": {"kid": 9223372036854775807}}',
    b'{"more": {}}',
    b'{"keys": {"kid": 1}, "addresses": {"api 10.0.0.256": 1}}',
    b'{"keys": {"kid": 1}, "addresses": {"": 1}}',
]


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_file_is_begun_anew(path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    write_atomic(path, data)
    seen = LastSeen(path)
    assert "what was last used is forgotten" in caplog.text
    assert (seen.key("kid"), seen.addresses(NOW), seen.principals_of("ab", NOW)) == (None, [], [])
    seen.note_key("kid", NOW)
    seen.save()
    assert LastSeen(path).key("kid") == NOW


def test_a_file_that_others_could_write_is_not_believed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(json.dumps({"keys": {"kid": 1}}))
    path.chmod(0o666)
    assert LastSeen(path).key("kid") is None
    assert "mode 0666" in caplog.text


@settings(max_examples=40)
@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_no_content_keeps_it_from_working(tmp_path_factory: pytest.TempPathFactory, table: dict[str, object]) -> None:
    path = tmp_path_factory.getbasetemp() / "last_seen_any.json"
    path.write_text(json.dumps({"keys": table, "issuers": table, "addresses": table}))
    path.chmod(0o600)
    seen = LastSeen(path)
    for name in table:
        seen.key(name)
    seen.addresses(NOW)
    seen.principals_of("ab", NOW)


async def test_what_is_seen_while_it_is_written_aside_is_written_next(
    seen: LastSeen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow_disk(path: Path, data: bytes) -> None:
        begun.set()
        assert go_on.wait(60)
        write_atomic(path, data)

    monkeypatch.setattr(state_dir, "write_atomic", slow_disk)
    seen.note_key("a", NOW)
    async with asyncio.TaskGroup() as group:
        group.create_task(seen.save_aside())
        assert await asyncio.to_thread(begun.wait, 60)
        seen.note_key("b", NOW)
        go_on.set()
    found = LastSeen(path)
    assert (found.key("a"), found.key("b")) == (NOW, None)
    await seen.save_aside()
    assert LastSeen(path).key("b") == NOW
