"""Whether a file is still the one that was loaded, without reading it."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class FileIdentity(Struct, frozen=True):
    """Size in bytes, time of the last change in ns, and place on the disk."""

    size: int
    mtime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> FileIdentity | None:
        """None where there is no such file, or none that can be looked at."""
        try:
            found = Path(path).stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino)
