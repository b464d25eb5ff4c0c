"""appliance.audit.journal and recovery: segments, crashes, clocks, breaks."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from appliance import __version__
from appliance.access_config import Audit
from appliance.audit.anchor import Checkpoint, append_checkpoint
from appliance.audit.chain import MINUTE
from appliance.audit.journal import DAY, internal, newest_seal_key_id
from appliance.audit.keys import SealKey
from appliance.audit.record import AuditEvent, StoredRecord, decode_body, format_time, split_line
from appliance.audit.recovery import FOUNDED_MIN
from appliance.audit.verify import verify
from appliance.errors import StateError
from tests.unit.audit.making import SECOND, AesCipher, Site, event, three_segments


def records(site: Site, number: int) -> list[StoredRecord]:
    found = []
    for line in site.lines(number):
        parts = split_line(line)
        assert parts is not None
        found.append(decode_body(parts[0]))
    return found


def actions(site: Site, number: int) -> list[str]:
    return [record.action for record in records(site, number)]


def test_a_new_log_is_founded(site: Site) -> None:
    journal = site.journal()
    site.write(journal, 2)
    journal.close()
    assert actions(site, 1) == ["audit.segment", "audit.founded", "audit.started", *["chat.completions"] * 2]
    assert [record.seq for record in records(site, 1)] == [1, 2, 3, 4, 5]
    assert records(site, 1)[2].details == {"segment": 1, "version": __version__}
    assert {path.stat().st_mode & 0o777 for path in site.folder.iterdir()} == {0o600}
    assert newest_seal_key_id(site.folder) == site.seal_key.key_id == site.k0().seal_key
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert (report.result, report.records, report.macs, report.unsealed) == ("incomplete", 5, 5, 5)


def test_it_goes_on_where_it_stopped(site: Site) -> None:
    for _ in range(3):
        journal = site.journal()
        site.write(journal, 3)
        journal.close()
        site.time.reboot()
    assert [record.seq for record in records(site, 1)] == list(range(1, 15))
    assert journal.broken is None
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


def test_segments_close_by_size(site: Site) -> None:
    site.settings = Audit(segment_bytes_max=4096)
    journal = site.journal()
    written = journal.write([(event(number), site.time.moment()) for number in range(100)])
    assert (written.count, written.error) == (100, None)
    assert journal.segment > 10
    for number in range(1, journal.segment):
        assert site.plain(number).stat().st_size < 4096 + 600
        assert site.seal(number).bytes == site.plain(number).stat().st_size
    journal.close()
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


def test_segments_close_at_midnight_also_without_events(site: Site) -> None:
    journal = site.journal()
    site.time.advance(12 * 3600 - 1)
    assert journal.keep_time().count == 1 and journal.segment == 1
    site.time.advance(1)
    journal.keep_time()
    assert journal.segment == 2
    assert actions(site, 2) == ["audit.segment", "audit.alive"]
    assert site.seal(1).last_ts == format_time(site.time.utc - SECOND)


def test_a_quiet_log_keeps_its_keys_moving(site: Site) -> None:
    journal = site.journal()
    for minute in range(1, 46):
        site.time.advance(60)
        assert journal.keep_time().count == (minute % 15 == 0)
    assert journal.key.epoch == 45


def test_a_torn_line_is_kept_and_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    journal = site.journal()
    site.write(journal, 3)
    journal.close()
    torn = site.lines(1)[-1][:40]
    with site.plain(1).open("ab") as file:
        file.write(torn)
    report = verify(site.folder, k0=site.k0())
    assert (report.result, report.torn) == ("incomplete", 40)
    journal = site.journal()
    journal.close()
    assert journal.broken is None
    assert (site.folder / "00000001.torn").read_bytes() == torn
    recovered = records(site, 1)[-2]
    assert not list(site.folder.glob("*.torn.new"))
    assert (recovered.action, recovered.details["bytes"]) == ("audit.recovered", 40)
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert not report.findings and any("40 bytes in 00000001.torn" in note for note in report.notes)
    assert "unfinished line" in caplog.text


def test_a_torn_line_is_told_also_where_recovery_was_cut_short(site: Site) -> None:
    journal = site.journal()
    journal.roll_now()
    journal.close()
    (site.folder / "00000001.torn.new").write_bytes(b"torn")
    site.journal().close()
    recovered = records(site, 2)[-2]
    assert recovered.details["segment"] == 1 and recovered.details["bytes"] == 4
    assert (site.folder / "00000001.torn").read_bytes() == b"torn"


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b'{"action"'])
def test_a_segment_that_hardly_began_is_begun_again(site: Site, content: bytes) -> None:
    journal = site.journal()
    journal.roll_now()
    journal.close()
    site.plain(2).write_bytes(content)
    journal = site.journal()
    # Its first record was durable, and then it was gone: that is no crash.
    assert journal.broken is not None and "end was removed" in journal.broken


def test_a_crash_right_after_a_seal(site: Site) -> None:
    journal = site.journal()
    state = (site.folder / "epoch.key").read_bytes()
    journal.roll_now()
    journal.close()
    site.plain(2).unlink()
    (site.folder / "epoch.key").write_bytes(state)
    journal = site.journal()
    assert journal.broken is None and journal.segment == 2
    assert actions(site, 2) == ["audit.segment", "audit.started"]
    for content in (b"", b'{"act'):
        journal.close()
        site.plain(2).write_bytes(content)
        (site.folder / "epoch.key").write_bytes(state)
        journal = site.journal()
        assert journal.broken is None
        assert actions(site, 2)[0] == "audit.segment"
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


def test_a_crash_while_it_was_founded(site: Site) -> None:
    journal = site.journal()
    journal.close()
    site.plain(1).unlink()
    fresh = site.journal  # the state on disk is that after the first record
    assert fresh().broken is not None


def break_edit(site: Site) -> None:
    lines = site.lines(1)
    lines[4] = lines[4].replace(b"alice", b"mallo")
    site.plain(1).write_bytes(b"".join(lines))


def break_cut(site: Site) -> None:
    site.plain(1).write_bytes(b"".join(site.lines(1)[:4]))


def break_removed(site: Site) -> None:
    site.plain(1).unlink()


def break_key(site: Site) -> None:
    (site.folder / "epoch.key").write_bytes(b"junk")


def break_key_removed(site: Site) -> None:
    (site.folder / "epoch.key").unlink()


def break_dek(site: Site) -> None:
    site.cipher = AesCipher(bytes(32))


def break_garbage(site: Site) -> None:
    with site.plain(1).open("ab") as file:
        file.write(b"garbage\n")


BREAKS = [break_edit, break_cut, break_removed, break_key, break_key_removed, break_dek, break_garbage]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_broken_chain_starts_a_new_segment(site: Site, damage: object) -> None:
    journal = site.journal()
    site.write(journal, 30, seconds=10)
    last = journal.link.seq
    journal.close()
    k0 = site.k0()
    damage(site)  # type: ignore[operator]
    journal = site.journal()
    assert journal.broken is not None
    site.write(journal, 3)
    journal.close()
    assert actions(site, 2)[:3] == ["audit.segment", "audit.break", "audit.started"]
    sequence = [record.seq for record in records(site, 2)]
    # No number is given twice.
    assert sequence == list(range(sequence[0], sequence[0] + 6))
    assert sequence[0] > last
    assert site.seal(1).broken == journal.broken
    again = site.journal()
    assert again.broken is None
    again.close()
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert report.result == "tampered" and report.findings[0].segment == 1
    if damage in (break_key, break_key_removed, break_dek):
        assert site.k0() != k0
        assert (site.folder / f"verification-{k0.id}.key").read_bytes() == k0.encode()
    else:
        assert len(report.findings) <= 2
        assert report.macs >= 6


def test_a_lost_folder_is_a_break_and_not_a_new_log(site: Site) -> None:
    three_segments(site).close()
    for path in site.folder.glob("0*"):
        path.unlink()
    journal = site.journal()
    assert journal.broken is not None and journal.segment == 4


def test_a_folder_put_back_is_found_by_the_anchor_at_the_start(site: Site, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    site.settings = Audit(anchor=str(anchor))
    journal = site.journal()
    append_checkpoint(anchor, Checkpoint(journal.link.seq, journal.link.head, format_time(journal.link.ts)))
    journal.close()
    journal = site.journal()
    assert journal.broken is None
    append_checkpoint(anchor, Checkpoint(500, "00" * 32, format_time(journal.link.ts)))
    journal.close()
    journal = site.journal()
    assert journal.broken is not None and "anchor knows record 500" in journal.broken
    assert journal.link.seq > 500


def test_another_process_that_touches_the_file_breaks_it(site: Site) -> None:
    journal = site.journal()
    site.write(journal, 1)
    with site.plain(1).open("ab") as file:
        file.write(b"{}\n")
    site.write(journal, 1)
    assert journal.broken is not None and "was changed" in journal.broken and journal.segment == 2
    site.plain(2).unlink()
    site.write(journal, 1)
    assert "was removed" in journal.broken and journal.segment == 3
    assert actions(site, 3)[:2] == ["audit.segment", "audit.break"]
    journal.close()
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert report.result == "tampered" and {finding.segment for finding in report.findings} == {1, 2}


def test_the_wrong_seal_key_is_refused(site: Site) -> None:
    site.journal().close()
    site.seal_key = SealKey.generate()
    with pytest.raises(StateError, match="restore the seal key"):
        site.journal()


def test_missing_seal_keys_are_refused(site: Site) -> None:
    three_segments(site)
    (site.folder / "seal-keys.json").unlink()
    with pytest.raises(StateError, match="restore it from a backup"):
        site.journal()


def test_the_seal_key_is_replaced_by_a_signed_one(site: Site) -> None:
    journal = site.journal()
    old, new = site.seal_key, SealKey.generate()
    journal.replace_seal_key(new)
    assert newest_seal_key_id(site.folder) == new.key_id
    assert site.seal(1).key_id == old.key_id
    site.write(journal, 1)
    journal.roll_now()
    assert site.seal(2).key_id == new.key_id
    journal.close()
    with pytest.raises(StateError, match="restore the seal key"):
        site.journal()
    site.seal_key = new
    site.journal().close()
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


@pytest.mark.slow
def test_a_clock_that_is_set_is_recorded(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    journal = site.journal()
    site.write(journal, 1)
    for years in (1, -1):
        site.time.set_by(years * 365 * 86_400)
        site.write(journal, 1)
    seconds = [
        record.details["seconds"]
        for number in range(1, journal.segment + 1)
        for record in records(site, number)
        if record.action == "audit.clock"
    ]
    assert seconds == [365 * 86_400, -365 * 86_400]
    journal.close()
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert not report.findings and "the clock went back 1 times" in report.notes
    assert "clock was set" in caplog.text


def test_founded_in_1970_and_woken_in_2026(site: Site) -> None:
    site.time.utc = 60 * SECOND
    journal = site.journal()
    site.write(journal, 2)
    site.time.utc = FOUNDED_MIN * MINUTE + 60 * DAY
    site.write(journal, 2)
    journal.close()
    site.time.reboot()
    site.time.utc = 30 * SECOND
    journal = site.journal()
    site.write(journal, 1)
    journal.close()
    sequence = [record.seq for number in range(1, journal.segment + 1) for record in records(site, number)]
    assert sequence == list(range(1, len(sequence) + 1))
    assert journal.broken is None
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert not report.findings


@pytest.mark.slow
def test_a_jump_beyond_one_step_is_told(site: Site) -> None:
    journal = site.journal()
    journal.close()
    site.time.reboot()
    site.time.set_by(400 * 86_400)
    journal = site.journal()
    clock = next(record for record in records(site, journal.segment) if record.action == "audit.clock")
    assert clock.details["epochs_behind"] == 34 * 24 * 60
    journal.close()
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


class FullDisk:
    """Takes `room` bytes, then a part of a write without an error, then ENOSPC."""

    def __init__(self) -> None:
        self.room = 10**9

    def __call__(self, fd: int, data: bytes | memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = os.write(fd, data[: self.room])
        self.room -= taken
        return taken


def test_a_full_disk_keeps_whole_records_and_their_order(site: Site) -> None:
    disk = FullDisk()
    journal = site.journal(disk)
    events = [(event(number), site.time.moment()) for number in range(20)]
    written = journal.write(events[:1])
    size = site.plain(1).stat().st_size
    one = size // 4
    disk.room = 5 * one + 200
    written = journal.write(events[1:])
    assert isinstance(written.error, OSError) and written.error.errno == errno.ENOSPC
    assert 1 <= written.count < 19
    assert site.plain(1).read_bytes().endswith(b"\n")
    assert journal.write(events[1 + written.count :]).count == 0
    disk.room = 10**9
    rest = journal.write(events[1 + written.count :])
    assert (rest.count, rest.error) == (19 - written.count, None)
    ids = [record.request_id for record in records(site, 1) if record.request_id]
    assert ids == [f"req-{number:06}" for number in range(20)]
    journal.close()
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


def test_a_segment_that_cannot_begin_is_begun_later(site: Site) -> None:
    disk = FullDisk()
    journal = site.journal(disk)
    site.time.utc += DAY
    site.time.mono_us += DAY
    disk.room = 100
    moment = site.time.moment()
    for _ in range(3):
        written = journal.write([(event(), moment)])
        assert written.count == 0 and isinstance(written.error, OSError)
    assert not site.plain(2).exists()
    disk.room = 10**9
    assert journal.write([(event(), moment)]).error is None
    assert actions(site, 2) == ["audit.segment", "chat.completions"]
    journal.close()
    assert not verify(site.folder, cipher=site.cipher, k0=site.k0()).findings


def test_a_malformed_event_costs_nobody_else(site: Site) -> None:
    journal = site.journal()
    wrong = AuditEvent(action="x", outcome="perhaps")  # type: ignore[arg-type]
    moment = site.time.moment()
    assert journal.write([(event(1), moment), (wrong, moment), (event(2), moment)]).count == 3
    assert actions(site, 1)[-2:] == ["audit.malformed", "chat.completions"]


def test_the_log_says_which_segment_it_gave_up(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.journal().close()
    break_garbage(site)
    with caplog.at_level(logging.ERROR):
        site.journal().close()
    assert "segment 1, line 4 is no record" in caplog.text


def test_internal_events_are_the_appliances() -> None:
    assert internal("audit.x", a=1).actor.principal == "appliance"


def test_founding_twice_needs_no_folder_of_before(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Site(tmp_path / "missing").journal()
