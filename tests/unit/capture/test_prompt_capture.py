"""On, off, for whom, and what an administrator is told."""

from __future__ import annotations

import os
import threading

import pytest

from appliance.access_config import Capture
from appliance.capture import writer
from tests.unit.capture.making import ON, Site, exchange
from tests.waiting import eventually


def test_off_there_is_neither_a_thread_nor_a_file(site: Site) -> None:
    threads = set(threading.enumerate())
    capture = site.capture()
    assert capture.bytes_max("alice") is None
    capture.keep(exchange())
    capture.configure(Capture(principals=("alice",)))
    capture.keep(exchange())
    capture.prune()
    assert capture.notes() == []
    assert set(threading.enumerate()) <= threads
    capture.close()
    assert not site.folder.exists()


def test_only_those_who_are_named(site: Site) -> None:
    capture = site.capture()
    capture.configure(Capture(enabled=True, principals=("bob", "alice"), bytes_max=5000))
    assert [capture.bytes_max(name) for name in ("alice", "bob", "carol")] == [5000, 5000, None]
    capture.keep(exchange("a"))
    capture.keep(exchange("c", "carol"))
    assert capture.notes() == ["prompts of 2 principals are captured: alice, bob"]
    capture.configure(ON)
    assert capture.bytes_max("carol") == 2**18
    assert capture.notes() == ["prompts of all principals are captured"]
    capture.keep(exchange("c2", "carol"))
    capture.close()
    assert site.ids() == ["c2", "a"]


def test_what_ends_after_it_was_turned_off_is_not_kept(site: Site) -> None:
    capture = site.capture()
    capture.configure(ON)
    capture.keep(exchange("before"))
    capture.configure(Capture())
    capture.keep(exchange("after"))
    capture.configure(ON)
    capture.keep(exchange("again"))
    capture.close()
    capture.keep(exchange("closed"))
    assert site.ids() == ["again", "before"]


def test_what_was_lost_is_told(site: Site) -> None:
    room = [False]
    capture = site.capture(has_room=lambda: room[0])
    capture.configure(ON)
    capture.keep(exchange())
    (_, note) = capture.notes()
    assert note == "requests that were not captured: 1 (the disk has less room than audit.disk_warn_bytes)"
    room[0] = True
    capture.keep(exchange("r2"))
    eventually(lambda: site.ids() == ["r2"])
    assert capture.notes()[1:] == ["requests that were not captured: 1 (now they are)"]
    capture.close()


def test_a_slow_disk_is_told_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns, begun = threading.Semaphore(0), []

    def write(fd: int, data: bytes) -> int:
        begun.append(fd)
        turns.acquire()
        return os.write(fd, data)

    monkeypatch.setattr(writer, "QUEUE_MAX", 4)
    capture = site.capture(write=write)
    capture.configure(ON)
    for number in range(20):
        capture.keep(exchange(f"r{number}"))
        if number % 3 == 2:
            turns.release()
            eventually(lambda turn=number // 3 + 1: len(begun) > turn)  # type: ignore[misc]
    assert caplog.text.count("the disk is slower than the requests") == 1
    assert "(the disk is slower than the requests)" in capture.notes()[1]
    turns.release(100)
    capture.close()
