"""appliance.audit.verify: what is found, where, and what cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.access_config import Audit
from appliance.audit.anchor import Checkpoint, append_checkpoint
from appliance.audit.chain import EpochKey
from appliance.audit.epoch_state import EpochState
from appliance.audit.keys import SealKey, VerificationKey
from appliance.audit.record import format_time
from appliance.audit.seal_keys import SealKeyChain
from appliance.audit.seals import Seal, seal_hash
from appliance.audit.signed import sign_line
from appliance.audit.verify import Report, verify
from appliance.errors import StateError
from tests.unit.audit.making import Site, forge, three_segments, to_datetime


def check(site: Site, anchor: Path | None = None) -> Report:
    return verify(site.folder, cipher=site.cipher, k0=site.k0(), anchor=anchor)


def rewrite(site: Site, number: int, lines: list[bytes]) -> None:
    site.plain(number).write_bytes(b"".join(lines))


def test_a_whole_log(site: Site) -> None:
    three_segments(site)
    report = check(site)
    assert (report.result, report.findings, report.exit_code) == ("incomplete", (), 2)
    assert (report.segments, report.records, report.macs) == (2, 3 + 36 + 2, 3 + 36 + 2)
    assert report.unsealed == 13 and "13 records in segment 3 are not sealed yet" in report.notes
    assert report.head is not None and report.head.seq == 41


def test_sealed_segments_alone_are_ok(site: Site) -> None:
    three_segments(site)
    site.plain(3).unlink()
    (site.folder / "epoch.key").unlink()
    report = check(site)
    assert (report.result, report.exit_code) == ("ok", 0)
    assert any("nothing is known of records after it" in note for note in report.notes)


def test_what_is_checked_with_public_keys_alone(site: Site) -> None:
    three_segments(site)
    report = verify(site.folder, first_key_fingerprint=site.seal_key.key_id)
    assert (report.result, report.findings, report.macs, report.records) == ("incomplete", (), 0, 13)
    assert "2 segments are encrypted, so only their seals were checked" in report.notes
    assert any("could have rewritten the past" in note for note in report.notes)
    assert not any("fingerprint" in note for note in report.notes)
    assert any("fingerprint" in note for note in verify(site.folder).notes)


def test_since_skips_older_records_and_not_their_seals(site: Site) -> None:
    three_segments(site)
    report = verify(site.folder, cipher=site.cipher, since=to_datetime(site.time.utc) - timedelta(seconds=60))
    assert (report.records, report.segments) == (13, 2)
    assert any("--since" in note for note in report.notes)


# Plain segments: (what is done to the lines of segment `number`, where it must be found, part of the reason).
def edit(lines: list[bytes]) -> None:
    lines[5] = lines[5].replace(b"user:alice", b"user:mallo")


def edit_mac(lines: list[bytes]) -> None:
    lines[5] = lines[5][:-3] + (b"00\n" if lines[5][-3:] != b"00\n" else b"11\n")


def delete(lines: list[bytes]) -> None:
    del lines[5]


def swap(lines: list[bytes]) -> None:
    lines[5], lines[6] = lines[6], lines[5]


def insert(lines: list[bytes]) -> None:
    lines.insert(5, lines[4])


def junk(lines: list[bytes]) -> None:
    lines[5] = b"junk\n"


def first(lines: list[bytes]) -> None:
    del lines[0]


@dataclass(frozen=True)
class Case:
    name: str
    change: Callable[[list[bytes]], None]
    line: int
    reason: str


LINE_CASES = [
    Case("edit", edit, 6, "wrong MAC"),
    Case("edit MAC", edit_mac, 6, "wrong MAC"),
    Case("delete", delete, 6, "sequence number"),
    Case("swap", swap, 6, "sequence number"),
    Case("insert", insert, 6, "sequence number"),
    Case("junk", junk, 6, "is no record"),
]


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("case", LINE_CASES, ids=lambda case: case.name)
def test_changed_lines(site: Site, case: Case, number: int) -> None:
    three_segments(site, packed=False)
    lines = site.lines(number)
    case.change(lines)
    rewrite(site, number, lines)
    report = check(site)
    assert report.exit_code == 1
    finding = report.findings[0]
    assert (finding.segment, finding.line) == (number, case.line) and case.reason in finding.reason
    assert len(report.findings) == 1 or number == 3  # the epoch key knows of the end of the open one


@pytest.mark.parametrize("case", LINE_CASES[0:1] + LINE_CASES[2:], ids=lambda case: case.name)
def test_changed_lines_without_any_key(site: Site, case: Case) -> None:
    """The chain alone finds what is not made anew."""
    three_segments(site, packed=False)
    lines = site.lines(3)
    case.change(lines)
    rewrite(site, 3, lines)
    report = verify(site.folder)
    assert report.exit_code == 1 and report.findings[0].segment == 3
    assert report.findings[0].line == case.line + (case.name == "edit")


def truncate(site: Site) -> None:
    rewrite(site, 2, site.lines(2)[:-2])


def truncate_torn(site: Site) -> None:
    site.plain(2).write_bytes(site.plain(2).read_bytes()[:-20])


def extend(site: Site) -> None:
    lines = site.lines(2)
    seal = site.seal(2)
    state = EpochState.read(site.folder / "epoch.key", site.cipher)
    [extra] = forge(site.lines(3)[1:2], seal.link, EpochKey(seal.link.epoch, state.epoch_key.key), seal.founded)
    rewrite(site, 2, [*lines, extra])


def remove_packed(site: Site) -> None:
    site.plain(2).unlink()


def remove_seal(site: Site) -> None:
    (site.folder / "00000002.seal").unlink()


def remove_both(site: Site) -> None:
    remove_packed(site)
    remove_seal(site)


def replace_segment(site: Site) -> None:
    shutil.copy(site.plain(1), site.plain(2))


def replace_segment_and_seal(site: Site) -> None:
    replace_segment(site)
    shutil.copy(site.folder / "00000001.seal", site.folder / "00000002.seal")


def forge_seal(site: Site) -> None:
    seal = site.seal(2)
    (site.folder / "00000002.seal").write_bytes(sign_line(seal, SealKey.generate()))


def edit_seal(site: Site) -> None:
    path = site.folder / "00000002.seal"
    path.write_bytes(path.read_bytes().replace(b'"records":13', b'"records":14'))


def replace_seal_keys(site: Site) -> None:
    """All seals made anew by another's key."""
    mallory = SealKey.generate()
    (site.folder / "seal-keys.json").write_bytes(SealKeyChain.found(mallory).data)
    previous = "0" * 64
    for number in (1, 2):
        seal = site.seal(number)
        fields = {name: getattr(seal, name) for name in seal.__struct_fields__}
        line = sign_line(Seal(**{**fields, "key_id": mallory.key_id, "previous": previous}), mallory)
        (site.folder / f"{number:08}.seal").write_bytes(line)
        previous = seal_hash(line)


def remove_seal_keys(site: Site) -> None:
    (site.folder / "seal-keys.json").unlink()


def cut_seal_keys(site: Site) -> None:
    path = site.folder / "seal-keys.json"
    path.write_bytes(path.read_bytes()[:100])


def remove_all(site: Site) -> None:
    for path in site.folder.glob("0*"):
        path.unlink()


FILE_CASES = [
    (truncate, 2, "cut short"),
    (truncate_torn, 2, "cut short"),
    (extend, 2, "MAC"),
    (remove_packed, 2, "is missing"),
    (remove_seal, 2, "has no seal"),
    (remove_both, 2, "has no seal"),
    (replace_segment, 2, "sequence number"),
    (replace_segment_and_seal, 2, "seal of segment 1"),
    (forge_seal, 2, "not signed"),
    (edit_seal, 2, "not signed"),
    (replace_seal_keys, None, "another key"),
    (remove_seal_keys, None, "is missing"),
    (cut_seal_keys, None, "entry 1"),
    (remove_all, None, "no audit log"),
]


@pytest.mark.parametrize(("change", "segment", "reason"), FILE_CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_changed_files(site: Site, change: Callable[[Site], None], segment: int | None, reason: str) -> None:
    three_segments(site, packed=False)
    change(site)
    report = check(site)
    assert report.exit_code == 1
    finding = report.findings[0]
    assert finding.segment == segment and reason in finding.reason


@pytest.mark.parametrize("place", [0, 10, 100, -1])
def test_changed_bytes_of_an_encrypted_segment(site: Site, place: int) -> None:
    three_segments(site)
    path = site.folder / "00000002.log.enc"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    report = check(site)
    assert report.exit_code == 1 and [finding.segment for finding in report.findings] == [2]
    path.unlink()
    assert [finding.segment for finding in check(site).findings] == [2]
    assert [finding.segment for finding in verify(site.folder).findings] == [2]
    shutil.copy(site.folder / "00000001.log.enc", path)
    assert [finding.segment for finding in check(site).findings] == [2]


def live_key(site: Site) -> EpochKey:
    return EpochState.read(site.folder / "epoch.key", site.cipher).epoch_key


def test_rewriting_the_open_segment_with_the_key_of_now(site: Site) -> None:
    """An intruder with every secret of this moment changes a record of two minutes ago and all after it."""
    three_segments(site)
    seal, lines = site.seal(2), site.lines(3)
    lines[2] = lines[2].replace(b"user:alice", b"user:mallo")
    stolen = live_key(site)
    # Its own clock demands an earlier key than it has: it claims the older epoch, or admits the newer.
    rewrite(site, 3, forge(lines, seal.link, EpochKey(seal.link.epoch, stolen.key), seal.founded))
    assert not verify(site.folder).findings  # as whole a chain as any, to who has no keys
    report = check(site)
    assert report.findings[0].segment == 3 and "wrong MAC" in report.findings[0].reason
    admitted = [line.replace(b'"epoch":', b'"epoch":9') for line in lines]
    rewrite(site, 3, forge_as_is(admitted, stolen))
    report = verify(site.folder)
    assert "was made at another time" in report.findings[0].reason


def forge_as_is(lines: list[bytes], key: EpochKey) -> list[bytes]:
    return [
        body + b"\t" + key.mac(body).hex().encode() + b"\n" for body, _, _ in (line.partition(b"\t") for line in lines)
    ]


def test_a_log_made_anew_under_another_key(site: Site, tmp_path: Path) -> None:
    three_segments(site)
    k0 = site.k0()
    other = Site(tmp_path / "other", time=site.time, cipher=site.cipher)
    other.folder.mkdir()
    three_segments(other)
    report = verify(other.folder, cipher=other.cipher, k0=k0)
    reasons = [finding.reason for finding in report.findings]
    assert any("another key than the one that founded" in reason for reason in reasons)
    assert any("another verification key" in reason for reason in reasons)


def test_a_false_founding_time_is_found(site: Site) -> None:
    """Moved back, it would let the key of now fit the times of yesterday."""
    three_segments(site)
    k0 = site.k0()
    moved = VerificationKey(v=1, founded=k0.founded - 5, key=k0.key, seal_key=k0.seal_key)
    report = verify(site.folder, cipher=site.cipher, k0=moved)
    assert "founding time" in report.findings[0].reason


def anchored(site: Site, path: Path) -> None:
    for number in (1, 2):
        link = site.seal(number).link
        append_checkpoint(path, Checkpoint(link.seq, link.head, format_time(link.ts)))
    journal = site.journal()
    append_checkpoint(path, Checkpoint(journal.link.seq, journal.link.head, format_time(journal.link.ts)))
    journal.close()


def test_the_whole_folder_put_back_is_found_by_the_anchor_alone(site: Site, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    three_segments(site)
    shutil.copytree(site.folder, tmp_path / "backup")
    journal = site.journal()
    site.write(journal, 5)
    journal.roll_now()
    journal.close()
    anchored(site, anchor)
    assert not check(site, anchor).findings
    back = replace(site, folder=tmp_path / "backup")
    assert not check(back).findings
    report = check(back, anchor)
    assert report.exit_code == 1 and "put back to an earlier state" in report.findings[0].reason
    journal = back.journal()
    back.write(journal, 60)
    journal.close()
    report = check(back, anchor)
    assert report.exit_code == 1 and "noted elsewhere" in report.findings[0].reason


def test_a_rewritten_end_is_found_by_the_anchor(site: Site, tmp_path: Path) -> None:
    """Within its own minute the key of now can rewrite anything; the anchor knows."""
    anchor = tmp_path / "anchor"
    three_segments(site)
    anchored(site, anchor)
    lines, seal = site.lines(3), site.seal(2)
    lines[-1] = lines[-1].replace(b'"segment":3', b'"segment":4')
    keys = EpochKey(0, bytes.fromhex(site.k0().key))
    rewrite(site, 3, forge(lines, seal.link, keys.at(seal.link.epoch), seal.founded))
    assert not verify(site.folder, k0=site.k0()).findings
    assert "noted elsewhere" in check(site, anchor).findings[0].reason


def test_a_lost_end_is_found_by_the_epoch_key(site: Site) -> None:
    three_segments(site)
    rewrite(site, 3, site.lines(3)[:3])
    assert verify(site.folder, k0=site.k0()).exit_code == 2
    assert "end was removed" in check(site).findings[0].reason


def test_an_anchor_with_a_torn_line(site: Site, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    three_segments(site)
    anchored(site, anchor)
    with anchor.open("ab") as file:
        file.write(b'{"seq":')
    report = check(site, anchor)
    assert not report.findings and "1 lines of the anchor cannot be read" in report.notes
    with pytest.raises(StateError, match="cannot be read"):
        check(site, tmp_path / "none")


def test_a_retired_seal_key_seals_nothing_more(site: Site) -> None:
    stolen = site.seal_key
    journal = site.journal()
    journal.replace_seal_key(SealKey.generate())
    site.write(journal, 3)
    journal.roll_now()
    journal.close()
    assert not check(site).findings
    (site.folder / "00000002.seal").write_bytes(sign_line(site.seal(2), stolen))
    assert "not signed by the key for it" in check(site).findings[0].reason


def test_the_log_may_be_in_use(site: Site) -> None:
    site.settings = Audit(segment_bytes_max=8192)
    journal = site.journal()
    for _ in range(20):
        site.write(journal, 7)
        report = check(site)
        assert not report.findings
        site.pack()
    journal.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("whole") / "audit")
    site.folder.mkdir()
    three_segments(site, records=5, packed=False)
    return site


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_single_change_is_found(whole: Site, data: st.DataObject) -> None:
    """One edit, deletion, swap or insertion anywhere in the records, with every key of the auditor's at hand."""
    number = data.draw(st.integers(1, 3))
    lines = whole.lines(number)
    kind = data.draw(st.sampled_from(["flip", "delete", "swap", "insert", "drop"]))
    place = data.draw(st.integers(0, len(lines) - 1))
    if kind == "flip":
        line = bytearray(lines[place])
        at = data.draw(st.integers(0, len(line) - 1))
        line[at] ^= data.draw(st.integers(1, 255))
        lines[place] = bytes(line)
    elif kind == "delete":
        del lines[place]
    elif kind == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda other: other != place))
        lines[place], lines[other] = lines[other], lines[place]
    elif kind == "insert":
        lines.insert(place, data.draw(st.sampled_from([*whole.lines(1), *whole.lines(2), b"\n", b"{}\n"])))
    else:
        lines[place] = lines[place][:-1]
    before = whole.plain(number).read_bytes()
    try:
        rewrite(whole, number, lines)
        report = check(whole)
    finally:
        whole.plain(number).write_bytes(before)
    # The end of the open segment is the one place where a loss looks like a crash.
    if number == 3 and b"".join(lines) == before[: len(b"".join(lines))]:
        assert report.exit_code in (1, 2)
    elif report.exit_code != 1:
        assert report.torn and number == 3 and place == len(whole.lines(3)) - 1
    else:
        assert report.findings[0].segment in (number, None)


def test_reports_are_for_reading(site: Site) -> None:
    three_segments(site, packed=False)
    lines = site.lines(2)
    edit(lines)
    rewrite(site, 2, lines)
    assert str(check(site).findings[0]).startswith("segment 2, line 6 has a wrong MAC")
