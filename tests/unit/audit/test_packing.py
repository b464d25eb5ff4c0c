"""appliance.audit.packing"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from appliance.audit import packing
from appliance.audit.packing import MAGIC, pack, unpack, unpack_backwards
from appliance.audit.segments import SegmentFiles
from appliance.errors import StateError
from tests.unit.audit.making import AesCipher


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PIECE_BYTES", 100)


def packed(folder: Path, content: bytes, number: int = 1) -> SegmentFiles:
    files = SegmentFiles(folder, number)
    files.plain.write_bytes(content)
    pack(files, hashlib.sha256(content).hexdigest(), AesCipher())
    return files


LINES = b"".join(b"line %d\n" % number for number in range(100))


@pytest.mark.parametrize("content", [b"", b"\n", b"no end", LINES, LINES + b"torn", b"x" * 1000 + b"\n"])
def test_what_is_packed_reads_back(tmp_path: Path, content: bytes) -> None:
    files = packed(tmp_path, content)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.log.enc"]
    pieces = list(unpack(files, AesCipher()))
    assert b"".join(pieces) == content
    assert list(unpack_backwards(files, AesCipher())) == pieces[::-1]
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    pack(files, "", AesCipher())  # the plain file is gone: nothing to do


def test_a_crash_at_any_step_is_made_good(tmp_path: Path) -> None:
    files = packed(tmp_path, LINES)
    sha256 = hashlib.sha256(LINES).hexdigest()
    files.plain.write_bytes(LINES)  # encrypted, and not removed yet
    before = files.packed.stat().st_ino
    pack(files, sha256, AesCipher())
    assert files.packed.stat().st_ino == before and not files.plain.exists()
    files.plain.write_bytes(LINES)
    files.packed.write_bytes(b"half")
    pack(files, sha256, AesCipher())
    assert b"".join(unpack(files, AesCipher())) == LINES


def test_a_plain_file_that_is_not_what_was_sealed_stays(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path, 1)
    files.plain.write_bytes(LINES)
    with pytest.raises(StateError, match="changed after it was closed"):
        pack(files, hashlib.sha256(b"other").hexdigest(), AesCipher())
    assert files.plain.read_bytes() == LINES


def frames(data: bytes) -> list[bytes]:
    place, found = len(MAGIC), []
    while place < len(data):
        length = 4 + int.from_bytes(data[place : place + 4], "big")
        found.append(data[place : place + length])
        place += length
    return found


def test_pieces_cannot_be_moved_dropped_or_changed(tmp_path: Path) -> None:
    files = packed(tmp_path, LINES)
    whole = files.packed.read_bytes()
    pieces = frames(whole)
    other = packed(tmp_path, LINES, 2)
    wrong = [
        pieces[:-1],
        pieces[1:],
        [pieces[1], pieces[0], *pieces[2:]],
        [*pieces, pieces[-1]],
        [pieces[0][:-1] + bytes([pieces[0][-1] ^ 1]), *pieces[1:]],
        [*pieces, b"\0"],
        [b"\xff\xff\xff\xff" + os.urandom(10)],
        frames(other.packed.read_bytes()),
    ]
    for content in wrong:
        files.packed.write_bytes(MAGIC + b"".join(content))
        with pytest.raises(StateError):
            list(unpack(files, AesCipher()))
    files.packed.write_bytes(b"else")
    with pytest.raises(StateError, match="no encrypted audit segment"):
        list(unpack(files, AesCipher()))
