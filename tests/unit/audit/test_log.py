"""appliance.audit.log: what callers see, with real threads and files, and disks that are full, slow or gone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.access_config import Audit
from appliance.audit import committer
from appliance.audit import log as log_module
from appliance.audit.errors import AuditUnavailable
from appliance.audit.keys import SealKey, VerificationKey
from appliance.audit.log import AuditLog
from appliance.audit.log_file import BALLAST_BYTES
from appliance.audit.read import tail
from appliance.audit.record import StoredRecord
from appliance.audit.verify import verify
from appliance.errors import StateError
from tests.unit.audit.making import Site, event
from tests.waiting import until

FAST = Audit(commit_seconds=0.01)


@contextlib.contextmanager
def opened(site: Site, write: Callable[[int, bytes | memoryview], int] = os.write) -> Iterator[AuditLog]:
    """At noon: midnight begins another segment."""
    log = AuditLog.open(site.folder, site.settings, site.cipher, site.seal_key, clock=site.time.clock(), write=write)
    try:
        yield log
    finally:
        log.close()


def newest(site: Site, count: int = 100_000) -> list[StoredRecord]:
    return tail(site.folder, site.cipher, count=count)


def actions(site: Site) -> list[str]:
    return [record.action for record in reversed(newest(site))]


@pytest.fixture
def site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    site.settings = FAST
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.1)
    return site


async def test_everything_appended_is_there_in_order(site: Site) -> None:
    with opened(site) as log:
        for number in range(2000):
            log.append(event(number))
        await until(lambda: log.head.seq == 2003)
        assert (log.counters.written, log.counters.lost, log.available, log.degraded) == (2000, 0, True, ())
    ids = [record.request_id for record in reversed(newest(site)) if record.request_id]
    assert ids == [f"req-{number:06}" for number in range(2000)]
    assert actions(site)[-1] == "audit.stopped"
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


async def test_durable_means_on_the_disk(site: Site) -> None:
    with opened(site) as log:
        for number in range(5):
            await log.append_durably(event(number))
            assert site.lines(1)[-1].count(f"req-{number:06}".encode()) == 1
            assert log.head.seq == len(site.lines(1))


async def test_many_that_wait_share_a_commit(site: Site) -> None:
    with opened(site) as log:
        await asyncio.gather(*(log.append_durably(event(number)) for number in range(200)))
        assert log.counters.commits < 50


async def test_records_wait_for_more_of_them_and_not_for_ever(site: Site) -> None:
    site.settings = Audit(commit_seconds=0.6)
    with opened(site) as log:
        before, began = log.head.seq, time.monotonic()
        log.append(event())
        await until(lambda: log.head.seq > before)
        assert time.monotonic() - began > 0.4


async def test_append_never_raises_and_loss_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "QUEUE_MAX", 100)
    hangs, gate = threading.Event(), threading.Event()

    def write(fd: int, data: bytes | memoryview) -> int:
        if b"req-" in bytes(data):
            hangs.set()
            gate.wait(60)
        return os.write(fd, data)

    with opened(site, write) as log:
        log.append(event())
        await until(hangs.is_set)
        for number in range(150):
            log.append(event(number))
        assert log.counters.lost == 50 and not log.available
        assert any("more records waiting" in reason for reason in log.degraded)
        with pytest.raises(AuditUnavailable, match="more records waiting"):
            await log.append_durably(event())
        gate.set()
        await until(lambda: log.available)
        assert any("50 audit records were lost" in reason for reason in log.degraded)
    lost = next(record for record in newest(site) if record.action == "audit.lost")
    assert lost.details["records"] == 50


class Disk:
    """Between us and the real one: holds `size` bytes of segments and ballast, or fails with `error`."""

    def __init__(self, folder: Path) -> None:
        self.size = 10**9
        self.error = 0
        self._folder = folder

    def leave(self, room: int) -> None:
        """From now on there is this much room."""
        self.size = self._used() + room

    def __call__(self, fd: int, data: bytes | memoryview) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        room = max(0, self.size - self._used())
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data[:room])

    def _used(self) -> int:
        return sum(path.stat().st_size for path in [*self._folder.glob("*.log"), *self._folder.glob("ballast")])


async def test_a_full_disk_refuses_says_so_and_resumes_by_itself(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(site.folder)
    with opened(site, disk) as log:
        await log.append_durably(event(0))
        disk.leave(100)
        with pytest.raises(AuditUnavailable, match="No space left"):
            await log.append_durably(event(1))
        assert not log.available and "No space left" in log.degraded[0]
        await until(lambda: actions(site)[-1] == "audit.degraded")
        log.append(event(2))  # an answer that was under way
        with pytest.raises(AuditUnavailable):
            await log.append_durably(event(3))
        with pytest.raises(AuditUnavailable):
            await log.close_segment()
        disk.leave(10**9)
        await until(lambda: log.available)
        await log.append_durably(event(4))
    kept = [record.request_id or record.action for record in reversed(newest(site))][3:]
    assert kept == ["req-000000", "audit.degraded", "req-000002", "audit.resumed", "req-000004", "audit.stopped"]
    assert (site.folder / "ballast").stat().st_size == BALLAST_BYTES
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings
    assert "works again" in caplog.text


async def test_a_stop_on_a_full_disk_is_recorded(site: Site) -> None:
    disk = Disk(site.folder)
    with opened(site, disk) as log:
        disk.leave(0)
        log.append(event(1))
        await until(lambda: not log.available)
        for number in range(2, 1000):
            log.append(event(number))
    stopped, *others = newest(site)
    assert stopped.action == "audit.stopped"
    kept = sum(record.request_id is not None for record in others)
    assert kept > 50 and stopped.details["records_lost"] == 999 - kept
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


async def test_a_disk_that_fails_and_recovers(site: Site) -> None:
    disk = Disk(site.folder)
    with opened(site, disk) as log:
        disk.error = errno.EIO
        log.append(event(1))
        await until(lambda: not log.available)
        assert (site.folder / "ballast").exists()
        await until(lambda: log.counters.failures >= 3)
        disk.error = 0
        await until(lambda: log.available)
    assert [record.request_id for record in newest(site) if record.request_id] == ["req-000001"]


async def test_a_disk_that_hangs_counts_as_one_that_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "STALL_SECONDS_MAX", 0.1)
    monkeypatch.setattr(log_module, "DURABLE_SECONDS_MAX", 0.2)
    gate = threading.Event()

    def write(fd: int, data: bytes | memoryview) -> int:
        if b"req-" in bytes(data):
            gate.wait(60)
        return os.write(fd, data)

    with opened(site, write) as log:
        with pytest.raises(AuditUnavailable, match="took longer"):
            await log.append_durably(event())
        # Its thread may have begun to write a moment ago.
        await until(lambda: not log.available)
        assert "takes longer" in log.degraded[0]
        with pytest.raises(AuditUnavailable, match="takes longer"):
            await log.append_durably(event())
        gate.set()
        await until(lambda: log.available)


def mount_tmpfs(path: Path, size: str) -> bool:
    path.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
    return done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """One MiB, where the machine lets us mount it."""
    path = tmp_path / "small"
    if os.geteuid() != 0 or not mount_tmpfs(path, "1m"):
        pytest.skip("no tmpfs can be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


async def test_a_real_disk_that_fills_up(site: Site, small_disk: Path) -> None:
    site.folder = small_disk
    with opened(site) as log:
        await log.append_durably(event(0))
        hog = small_disk / "hog"
        with hog.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        for number in range(1, 100):
            log.append(event(number))
        await until(lambda: not log.available)
        await until(lambda: actions(site)[-1] == "audit.degraded")
        hog.unlink()
        await until(lambda: log.available)
        await log.append_durably(event(100))
    ids = [record.request_id for record in reversed(newest(site)) if record.request_id]
    assert ids == [f"req-{number:06}" for number in range(101)]
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


async def test_a_broken_chain_is_served_degraded(site: Site) -> None:
    with opened(site) as log:
        await log.append_durably(event())
    lines = site.lines(1)
    site.plain(1).write_bytes(b"".join(lines[:2] + lines[3:]))
    with opened(site) as log:
        assert log.available and "chain is broken" in log.degraded[0]
        await log.append_durably(event())
    with opened(site) as log:
        assert log.degraded == ()


async def test_a_folder_that_vanishes_is_an_outage(site: Site, tmp_path: Path) -> None:
    with opened(site) as log:
        site.folder.rename(tmp_path / "elsewhere")
        with pytest.raises(AuditUnavailable):
            await log.append_durably(event())
        assert not log.available
        (tmp_path / "elsewhere").rename(site.folder)
        await until(lambda: log.available)
        await log.append_durably(event())


async def test_closed_segments_are_encrypted_behind_the_scenes(site: Site) -> None:
    with opened(site) as log:
        for number in range(3):
            await log.append_durably(event(number))
            await log.close_segment()
        await until(lambda: not site.plain(3).exists())
        assert (site.folder / "00000003.log.enc").exists()
        assert b"alice" not in (site.folder / "00000003.log.enc").read_bytes()
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


async def test_a_segment_changed_after_its_seal_is_not_encrypted(site: Site) -> None:
    with opened(site) as log:
        await log.append_durably(event())
        log.close()
    journal = site.journal()
    journal.roll_now()
    journal.close()
    site.plain(1).write_bytes(site.plain(1).read_bytes().replace(b"alice", b"mallo"))
    with opened(site) as log:
        await until(lambda: log.degraded != ())
        assert "is not encrypted" in log.degraded[0] and log.available
    assert site.plain(1).exists()


async def test_the_verification_key_is_taken_once(site: Site) -> None:
    with opened(site) as log:
        k0 = site.k0()
        here = [log.verification_key_is_here]
        assert VerificationKey.decode(log.take_verification_key()) == k0
        here.append(log.verification_key_is_here)
        assert here == [True, False]
        with pytest.raises(StateError, match="is missing"):
            log.take_verification_key()
    with opened(site) as log:
        assert not log.verification_key_is_here
    assert "audit.verification_key_taken" in actions(site)
    assert not verify(site.folder, cipher=site.cipher, k0=k0).findings


async def test_the_seal_key_is_replaced(site: Site) -> None:
    new = SealKey.generate()
    with opened(site) as log:
        await log.replace_seal_key(new)
        await log.append_durably(event())
    site.seal_key = new
    with opened(site) as log:
        assert log.degraded == ()
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


async def test_the_anchor_gets_the_head(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    anchor = tmp_path / "anchor"
    site.settings = Audit(commit_seconds=0.01, anchor=str(anchor))
    with caplog.at_level("INFO"), opened(site) as log:
        await until(lambda: anchor.exists() and anchor.stat().st_size > 0)
        await log.append_durably(event())
    assert "audit head 3 " in caplog.text and "audit head 5 " in caplog.text
    report = verify(site.folder, cipher=site.cipher, k0=site.k0(), anchor=anchor)
    assert not report.findings
    anchor.unlink()
    anchor.mkdir()
    with opened(site) as log:
        await until(lambda: "cannot be written" in caplog.text)
        assert log.available and log.degraded == ()
        await until(lambda: log.anchor_trouble is not None and "Is a directory" in log.anchor_trouble)


async def test_after_close_nothing_is_accepted(site: Site) -> None:
    log = AuditLog.open(site.folder, site.settings, site.cipher, site.seal_key)
    log.close()
    log.append(event())
    assert not log.available
    with pytest.raises(AuditUnavailable, match="closed"):
        await log.append_durably(event())
    log.close()


def test_a_disk_that_is_full_at_the_start_is_an_error_to_act_on(site: Site) -> None:
    disk = Disk(site.folder)
    disk.leave(1000)
    with pytest.raises(StateError, match="cannot be written"):
        AuditLog.open(site.folder, site.settings, site.cipher, site.seal_key, write=disk)
