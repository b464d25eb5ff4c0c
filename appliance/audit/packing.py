"""A closed segment on disk: compressed, encrypted, in pieces of whole lines so that memory stays bounded.

Format: MAGIC, then per piece a 4-byte big-endian length and the sealed, zlib-compressed lines. The record id of a piece
names segment, place and whether it is the last, so that pieces cannot be moved, dropped or taken from another segment.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from appliance.audit.record import LINE_BYTES_MAX
from appliance.audit.segments import SegmentFiles
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher, RotatingCipher
from appliance.state_dir import replacing, sync_folder

MAGIC: Final = b"AUDSEG1\n"
PIECE_BYTES: Final = 4 * 2**20
_PIECE_BYTES_MAX: Final = PIECE_BYTES + LINE_BYTES_MAX
# Compression and sealing may add a little to lines that do not shrink.
_SEALED_BYTES_MAX: Final = 2 * _PIECE_BYTES_MAX


def pack(files: SegmentFiles, sha256: str, cipher: Cipher) -> None:
    """Encrypts a sealed segment, proves that the copy reads back, and removes the plain file. Blocking.

    sha256: of the plain file, from its seal. Repeats harmlessly what a crash interrupted. Raises StateError, and
    OSError for the disk; then the plain file is still there.
    """
    if not files.plain.exists():
        return
    if not _reads_back(files, sha256, cipher):
        _write_packed(files, cipher)
        if not _reads_back(files, sha256, cipher):
            raise StateError(
                f"{files.plain} is not what its seal says; it was changed after it was closed. "
                "It stays as it is; run `appliance audit verify`"
            )
    files.plain.unlink()
    sync_folder(files.folder)


def unpack(files: SegmentFiles, cipher: Cipher) -> Iterator[bytes]:
    """The segment's lines, a piece of whole lines at a time. Raises StateError for a damaged file, and OSError."""
    with files.packed.open("rb") as file:
        for index, (sealed, last) in enumerate(_pieces(file, files.packed)):
            yield _open_piece(files.number, index, sealed, last, cipher)


def unpack_backwards(files: SegmentFiles, cipher: Cipher) -> Iterator[bytes]:
    """The same pieces, the last one first."""
    with files.packed.open("rb") as file:
        places = []
        place = len(MAGIC)
        for sealed, last in _pieces(file, files.packed):
            places.append((place + 4, len(sealed), last))
            place += 4 + len(sealed)
        for index, (start, length, last) in reversed(list(enumerate(places))):
            file.seek(start)
            yield _open_piece(files.number, index, file.read(length), last, cipher)


def _write_packed(files: SegmentFiles, cipher: Cipher) -> None:
    with files.plain.open("rb") as plain, replacing(files.packed) as packed:
        packed.write(MAGIC)
        index = 0
        piece = _whole_lines(plain)
        while True:
            following = _whole_lines(plain)
            sealed = cipher.seal(_record_id(files.number, index, last=not following), zlib.compress(piece))
            packed.write(len(sealed).to_bytes(4, "big") + sealed)
            if not following:
                break
            piece, index = following, index + 1


def repack(files: SegmentFiles, cipher: RotatingCipher) -> None:
    """Encrypts an encrypted segment again, where older keys than the newest hold a piece of it. Raises StateError."""
    with files.packed.open("rb") as file:
        if all(cipher.is_current(sealed) for sealed, _ in _pieces(file, files.packed)):
            return
    with files.packed.open("rb") as file, replacing(files.packed) as packed:
        packed.write(MAGIC)
        for index, (sealed, last) in enumerate(_pieces(file, files.packed)):
            name = _record_id(files.number, index, last=last)
            again = cipher.seal(name, cipher.unseal(name, sealed))
            packed.write(len(again).to_bytes(4, "big") + again)


def _whole_lines(plain: BinaryIO) -> bytes:
    """The next piece. The last line of a damaged segment may be long or unfinished: it is cut anywhere."""
    return plain.read(PIECE_BYTES) + plain.readline(LINE_BYTES_MAX)


def _reads_back(files: SegmentFiles, sha256: str, cipher: Cipher) -> bool:
    digest = hashlib.sha256()
    try:
        for piece in unpack(files, cipher):
            digest.update(piece)
    except (StateError, FileNotFoundError):
        return False
    return digest.hexdigest() == sha256


def _pieces(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, bool]]:
    """Sealed pieces, and whether each is the last."""
    if file.read(len(MAGIC)) != MAGIC:
        raise StateError(f"{path} is no encrypted audit segment")
    header = file.read(4)
    while header:
        length = int.from_bytes(header, "big")
        sealed = file.read(length) if length <= _SEALED_BYTES_MAX else b""
        if len(header) != 4 or len(sealed) != length:
            raise StateError(f"{path} is cut short or damaged")
        header = file.read(4)
        yield sealed, not header
    # A file without any piece is caught by its SHA-256.


def _open_piece(number: int, index: int, sealed: bytes, last: bool, cipher: Cipher) -> bytes:
    compressed = cipher.unseal(_record_id(number, index, last=last), sealed)
    try:
        inflater = zlib.decompressobj()
        piece = inflater.decompress(compressed, _PIECE_BYTES_MAX)
    except zlib.error as error:
        raise StateError(f"a piece of audit segment {number} does not decompress: {error}") from error
    if not inflater.eof:
        raise StateError(f"a piece of audit segment {number} is larger than any we write")
    return piece


def _record_id(number: int, index: int, *, last: bool) -> str:
    return f"audit/{number:08}/{index}/{'last' if last else 'more'}"
