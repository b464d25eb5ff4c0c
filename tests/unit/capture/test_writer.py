"""The writing thread: what it keeps, what it drops, and that it goes on."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from appliance.access_config import Capture
from appliance.capture import writer as module
from appliance.capture.exchange import Exchange
from tests.unit.capture.making import SECRET, Site, exchange, record
from tests.waiting import eventually


def test_a_round_trip_and_nothing_in_plain_text(site: Site) -> None:
    site.write(exchange("request-one", answer="an answer of one's own"))
    (captured,) = site.find("request-one").records
    assert captured.head.principal == "alice"
    assert SECRET in captured.content.prompt
    assert captured.content.choices[0].text == "an answer of one's own"
    (path,) = site.paths
    for word in (SECRET, "an answer", "alice", "demo", "request-one", "chat"):
        assert word.encode() not in path.read_bytes()
    assert site.folder.stat().st_mode & 0o777 == 0o700


def test_a_day_has_its_own_files(site: Site) -> None:
    writer = site.writer()
    for number in range(3):
        writer.put(exchange(f"r{number}"))
        eventually(lambda number=number: writer.status.kept == number + 1)  # type: ignore[misc]
        site.clock.advance(days=1)
    writer.close()
    assert [path.name[:10] for path in site.paths] == ["2026-11-25", "2026-11-26", "2026-11-27"]


def test_each_process_begins_a_file(site: Site) -> None:
    site.write(exchange("a"))
    site.write(exchange("b"))
    assert [path.name for path in site.paths] == ["2026-11-25.000001.sealed", "2026-11-25.000002.sealed"]


def test_a_file_is_left_at_midnight_and_when_it_is_turned_off(site: Site) -> None:
    writer = site.writer()
    writer.put(exchange())
    eventually(lambda: writer.status.kept == 1)
    site.clock.advance(days=1)
    eventually(lambda: writer._open is None)
    writer.put(exchange())
    eventually(lambda: writer.status.kept == 2)
    writer.settings = Capture()
    eventually(lambda: writer._open is None)
    writer.close()


def test_all_of_it_stays_within_its_bound(site: Site) -> None:
    settings = Capture(enabled=True, disk_bytes_max=20_000)
    site.write(*(exchange(f"r{number}", answer="x" * 1000) for number in range(100)), settings=settings)
    ids = site.ids()
    assert ids == [f"r{number}" for number in range(99, 99 - len(ids), -1)]
    total = sum(path.stat().st_size for path in site.paths)
    assert 15_000 < total <= 20_000


def test_one_that_is_larger_than_everything_is_dropped(site: Site) -> None:
    settings = Capture(enabled=True, disk_bytes_max=5000)
    writer = site.writer(settings)
    writer.put(exchange("small"))
    writer.put(exchange("large", answer="x" * 6000))
    eventually(lambda: writer.status.lost == 1)
    assert "do not fit into capture.disk_bytes_max" in (writer.status.failure or "")
    writer.close()


def test_a_torn_end_is_dropped_and_reported(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write(exchange("a"), exchange("b"))
    (path,) = site.paths
    path.write_bytes(path.read_bytes()[:-7])
    assert site.ids() == ["a"]
    site.write()
    assert "the last captured request was not written whole" in caplog.text
    caplog.clear()
    site.write(exchange("c"))
    assert caplog.text == ""
    assert site.ids() == ["c", "a"]


def test_a_full_queue_drops(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def write(fd: int, data: bytes) -> int:
        gate.wait()
        return os.write(fd, data)

    monkeypatch.setattr(module, "QUEUE_MAX", 3)
    writer = site.writer(write=write)
    writer.put(exchange("first"))
    eventually(lambda: writer._queue.qsize() == 0)
    assert [writer.put(exchange(f"r{number}")) for number in range(5)] == [True] * 3 + [False] * 2
    gate.set()
    writer.close()
    assert site.ids() == ["r2", "r1", "r0", "first"]
    assert writer._bytes_put == writer._bytes_taken


def test_large_requests_fill_the_queue_sooner(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def write(fd: int, data: bytes) -> int:
        gate.wait()
        return os.write(fd, data)

    monkeypatch.setattr(module, "QUEUE_BYTES_MAX", 5000)
    writer = site.writer(write=write)
    assert writer.put(exchange("huge", answer="x" * 6000)), "where nothing waits, any size is taken"
    assert not writer.put(exchange("another"))
    gate.set()
    writer.close()
    assert site.ids() == ["huge"]


def test_a_full_disk_drops_and_says_so_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    full = [False]

    def write(fd: int, data: bytes) -> int:
        if full[0]:
            os.write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)

    writer = site.writer(write=write)
    writer.put(exchange("before"))
    eventually(lambda: writer.status.kept == 1)
    full[0] = True
    for _ in range(5):
        writer.put(exchange("lost"))
    eventually(lambda: writer.status.lost == 5)
    assert "No space left" in (writer.status.failure or "")
    assert caplog.text.count("prompts are not captured") == 1
    assert len(site.paths) == 1, "no empty files are left"
    full[0] = False
    writer.put(exchange("after"))
    eventually(lambda: writer.status.failure is None)
    writer.close()
    assert "prompts are captured again; 5 requests were not" in caplog.text
    assert site.ids() == ["after", "before"]


def test_the_disk_is_left_alone_for_a_while_after_a_failure(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 600.0)
    calls = []

    def write(fd: int, data: bytes) -> int:
        calls.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = site.writer(write=write)
    for _ in range(50):
        writer.put(exchange())
    writer.close()
    assert (writer.status.lost, len(calls)) == (50, 1)


def test_a_folder_that_cannot_be_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    site.folder.write_text("in the way")
    writer = site.writer()
    writer.put(exchange("lost"))
    eventually(lambda: writer.status.lost == 1)
    site.folder.unlink()
    writer.put(exchange("kept"))
    writer.close()
    assert site.ids() == ["kept"]


def test_whatever_goes_wrong_the_thread_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    writer = site.writer()
    writer.put(Exchange(record=record(), body=b"no JSON", choices=(), bytes_max=10))
    writer.put(exchange("kept"))
    writer.close()
    assert (writer.status.kept, writer.status.lost) == (1, 1)
    assert "the prompt capture failed" in caplog.text
    assert "no JSON" not in caplog.text
