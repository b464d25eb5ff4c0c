"""The files: names, whole frames, torn ends, and who holds one."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from appliance.capture.day_file import (
    DayFile,
    OpenDayFile,
    claim,
    files_of,
    frame_bytes,
    frames_of,
    record_id,
    sealed_parts,
    torn_bytes,
)
from appliance.errors import StateError
from tests.unit.capture.making import Site

FILE = DayFile(date(2026, 11, 25), 1)
PARTS = [(b"head %d" % number, b"content %d" % number * number) for number in range(1, 4)]


@pytest.fixture
def path(site: Site) -> Path:
    """A file of three frames."""
    site.folder.mkdir()
    file = OpenDayFile(site.folder, FILE, site.cipher, write=os.write)
    for head, content in PARTS:
        file.append(head, content)
    assert file.size == sum(frame_bytes(head, content) for head, content in PARTS)
    file.close()
    return site.folder / FILE.name


def test_frames_come_back(site: Site, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("rb") as file:
        for frame, (head, content) in zip(frames_of(file), PARTS, strict=True):
            sealed = sealed_parts(file, frame)
            assert site.cipher.unseal(record_id(FILE, frame.place, "head"), sealed[0]) == head
            assert site.cipher.unseal(record_id(FILE, frame.place, "content"), sealed[1]) == content


def test_parts_cannot_be_moved(site: Site, path: Path) -> None:
    with path.open("rb") as file:
        head, content = sealed_parts(file, next(frames_of(file)))
    for wrong in (
        record_id(FILE, 1, "head"),
        record_id(FILE, 0, "content"),
        record_id(DayFile(FILE.day, 2), 0, "head"),
    ):
        with pytest.raises(StateError):
            site.cipher.unseal(wrong, head)
    with pytest.raises(StateError):
        site.cipher.unseal(record_id(FILE, 0, "head"), content)


def test_wherever_it_is_torn_the_frames_before_it_are_whole(path: Path) -> None:
    whole = path.read_bytes()
    ends = [0]
    for head, content in PARTS:
        ends.append(ends[-1] + frame_bytes(head, content))
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with path.open("rb") as file:
            count = len(list(frames_of(file)))
            assert count == sum(end <= size for end in ends[1:])
            assert torn_bytes(file) == size - ends[count]


def test_zeros_that_a_power_cut_left_are_no_frame(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(4096))
    with path.open("rb") as file:
        assert len(list(frames_of(file))) == 3
        assert torn_bytes(file) == 4096


def test_names_of_others_are_passed_over(site: Site, path: Path) -> None:
    for name in ("2026-13-45.000001.sealed", "2026-11-25.1.sealed", "notes.txt", ".2026-11-25.000001.sealed.ab.tmp"):
        (site.folder / name).touch()
    (site.folder / "2026-11-24.000002.sealed").touch()
    (site.folder / "2026-11-25.000010.sealed").touch()
    assert [file.number for file in files_of(site.folder)] == [2, 1, 10]
    assert files_of(site.folder / "missing") == []


def test_one_at_a_time(site: Site, path: Path) -> None:
    writing = OpenDayFile(site.folder, DayFile(FILE.day, 2), site.cipher, write=os.write)
    assert claim(site.folder / "2026-11-25.000002.sealed") is None
    writing.append(b"h", b"c")
    writing.close()
    first = claim(path)
    assert first is not None
    assert claim(path) is None
    first.close()
    second = claim(path)
    assert second is not None
    second.close()
    path.unlink()
    assert claim(path) is None


def test_a_link_is_not_followed(site: Site, path: Path) -> None:
    path.rename(site.root / "elsewhere")
    path.symlink_to(site.root / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        claim(path)
    with pytest.raises(FileExistsError):
        OpenDayFile(site.folder, FILE, site.cipher, write=os.write)


def test_a_part_that_did_not_fit_is_taken_back(site: Site, path: Path) -> None:
    room = [True]
    file = OpenDayFile(
        site.folder,
        DayFile(FILE.day, 2),
        site.cipher,
        write=lambda fd, data: os.write(fd, data if room[0] else data[:10]),
    )
    file.append(b"head", b"content")
    size, room[0] = file.size, False
    with pytest.raises(OSError, match="No space"):
        file.append(b"head", b"content")
    file.close()
    assert (site.folder / "2026-11-25.000002.sealed").stat().st_size == size


def test_an_empty_file_does_not_stay(site: Site, path: Path) -> None:
    OpenDayFile(site.folder, DayFile(FILE.day, 2), site.cipher, write=os.write).close()
    assert site.paths == [path]
