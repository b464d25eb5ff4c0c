"""The files of the capture folder, and the frames in them.

`2026-11-25.000001.sealed`: frames in the order of their requests' ends. A day has several: one is closed when it is
large, when the data key was rotated, and with the process, and is never appended to again.

    frame = length of head (4 bytes, big-endian) | length of content (4) | sealed head | sealed content

The record id of each part names the file, the frame's place in it and the part, so none can be moved or exchanged. That
frames or files are missing does not show: this is no audit log.

Whoever writes, seals anew or removes a file holds its flock, and lets go of it with the file. Readers take none: what
is not whole yet is not there for them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

from appliance.keyring.keyring import OVERHEAD_BYTES, PurposeCipher
from appliance.state_dir import sync_folder

HEAD_BYTES_MAX: Final = 64 * 2**10
CONTENT_BYTES_MAX: Final = 2**28
_LENGTHS: Final = struct.Struct(">II")
_NAME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})\.(\d{6})\.sealed")

WriteCall = Callable[[int, bytes], int]


@dataclass(frozen=True, slots=True, order=True)
class DayFile:
    """Which file: the UTC day it was begun on, and its number among those of the day."""

    day: date
    number: int

    @property
    def name(self) -> str:
        """In the folder, and in the record ids."""
        return f"{self.day.isoformat()}.{self.number:06}.sealed"


class Frame(NamedTuple):
    """Where one record is. place: among the frames of its file, from 0. offset: of the head's first byte."""

    place: int
    offset: int
    head_bytes: int
    content_bytes: int

    @property
    def end(self) -> int:
        """Of the frame."""
        return self.offset + self.head_bytes + self.content_bytes


def files_of(folder: Path) -> list[DayFile]:
    """Oldest first; none where there is no folder. Raises OSError."""
    found = []
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            if (match := _NAME.fullmatch(path.name)) is not None:
                with suppress(ValueError):
                    found.append(DayFile(date.fromisoformat(match[1]), int(match[2])))
    return sorted(found)


def claim(path: Path) -> BinaryIO | None:
    """The file, which nobody else will touch until it is closed; None while somebody else has it, or it is gone."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking it may have been replaced.
        if os.fstat(file.fileno()).st_ino == path.lstat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None


def frames_of(file: BinaryIO) -> Iterator[Frame]:
    """The whole frames. What follows the last one is torn or damaged, or being written."""
    size = os.fstat(file.fileno()).st_size
    place = start = 0
    while True:
        file.seek(start)
        lengths = file.read(_LENGTHS.size)
        if len(lengths) < _LENGTHS.size:
            return
        head_bytes, content_bytes = _LENGTHS.unpack(lengths)
        frame = Frame(place, start + _LENGTHS.size, head_bytes, content_bytes)
        plausible = (
            OVERHEAD_BYTES < head_bytes <= HEAD_BYTES_MAX and OVERHEAD_BYTES < content_bytes <= CONTENT_BYTES_MAX
        )
        if not plausible or frame.end > size:
            return
        yield frame
        place, start = place + 1, frame.end


def sealed_parts(file: BinaryIO, frame: Frame) -> tuple[bytes, bytes]:
    """Head and content as they are on the disk."""
    file.seek(frame.offset)
    return file.read(frame.head_bytes), file.read(frame.content_bytes)


def frame_bytes(head: bytes, content: bytes) -> int:
    """What these two will take in a file."""
    return _LENGTHS.size + len(head) + len(content) + 2 * OVERHEAD_BYTES


def join_frame(sealed_head: bytes, sealed_content: bytes) -> bytes:
    """The frame on the disk."""
    return _LENGTHS.pack(len(sealed_head), len(sealed_content)) + sealed_head + sealed_content


def record_id(file: DayFile, place: int, part: Literal["head", "content"]) -> str:
    """What a part is sealed as."""
    return f"{file.name}|{place}|{part}"


def torn_bytes(file: BinaryIO) -> int:
    """What a crash left behind the last whole frame."""
    end = max((frame.end for frame in frames_of(file)), default=0)
    return os.fstat(file.fileno()).st_size - end


class OpenDayFile:
    """A new file, open for appending. Belongs to one thread. Raises OSError, and StateError where it cannot seal."""

    def __init__(self, folder: Path, file: DayFile, cipher: PurposeCipher, *, write: WriteCall) -> None:
        self.file = file
        self.size = 0
        self._path = folder / file.name
        self._cipher = cipher
        self._write = write
        self._count = 0
        self._first = b""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        try:
            # Before anything is sealed: a data key may be dropped once no file that is held has need of it.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_folder(folder)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, head: bytes, content: bytes) -> None:
        """Seals both and writes them, or nothing. After an error the file must be closed."""
        sealed_head = self._cipher.seal(record_id(self.file, self._count, "head"), head)
        sealed_content = self._cipher.seal(record_id(self.file, self._count, "content"), content)
        frame = join_frame(sealed_head, sealed_content)
        try:
            if self._write(self._fd, frame) != len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self._first = self._first or sealed_head
        self.size += len(frame)
        self._count += 1

    @property
    def is_current(self) -> bool:
        """Whether the newest data key sealed all that is in it."""
        return not self._first or self._cipher.is_current(self._first)

    def close(self) -> None:
        """Makes it durable and lets go of it; an empty one is removed."""
        try:
            if self.size:
                os.fdatasync(self._fd)
            else:
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._fd)
