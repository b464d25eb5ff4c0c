"""Appending to a file on a disk that may be full: whole lines or none, and a reserve for the last words."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.state_dir import sync_folder

BALLAST_BYTES: Final = 128 * 1024

WriteCall = Callable[[int, bytes | memoryview], int]


class LogFile:
    """One segment, open for appending. Belongs to one thread. Its methods raise OSError.

    size: bytes that are whole lines of ours.
    """

    def __init__(self, path: Path, *, create: bool, write: WriteCall = os.write) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.path = path
        self._write = write
        self._fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        try:
            self.size = os.fstat(self._fd).st_size
            if create:
                sync_folder(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, lines: bytes) -> int:
        """Writes whole lines durably. Returns how many bytes stayed: a full disk takes the first part without an error.

        On OSError none stayed.
        """
        try:
            written = self._write(self._fd, lines)
            if written < len(lines):
                written = lines.rfind(b"\n", 0, written) + 1
                os.ftruncate(self._fd, self.size + written)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += written
        return written

    def intruded(self) -> str | None:
        """What another process did to the file since we wrote to it; costs two `stat` calls."""
        ours = os.fstat(self._fd)
        try:
            theirs = self.path.lstat()
        except FileNotFoundError:
            return "was removed"
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
            return "was replaced"
        if ours.st_size != self.size:
            return f"was changed: it has {ours.st_size} bytes where {self.size} were written"
        return None

    def truncate(self, size: int) -> None:
        """Cuts the file to `size` bytes, durably."""
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)
        self.size = size

    def close(self) -> None:
        """Further calls raise OSError."""
        os.close(self._fd)


class Ballast:
    """A file that is removed when the disk is full, so that a few hundred more records find room."""

    def __init__(self, path: Path, *, write: WriteCall = os.write) -> None:
        self._path = path
        self._write = write

    @property
    def held(self) -> bool:
        """Whether the room is reserved."""
        try:
            return self._path.stat().st_size >= BALLAST_BYTES
        except OSError:
            return False

    def reserve(self) -> None:
        """Takes the room unless it is taken. Raises OSError while the disk has none."""
        if self.held:
            return
        self._path.unlink(missing_ok=True)
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < BALLAST_BYTES:
            # Said without trying, once a second for as long as the disk is full.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Random, because a file system may store zeros in no room at all.
            rest = memoryview(secrets.token_bytes(BALLAST_BYTES))
            while rest:
                rest = rest[self._write(fd, rest) :]
            os.fsync(fd)
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def release(self) -> bool:
        """Gives the room back. Returns whether there was any."""
        try:
            self._path.unlink()
            sync_folder(self._path.parent)
        except OSError:
            return False
        return True
