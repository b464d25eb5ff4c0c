"""Reads a file once, from its first to its last byte, hashes it, and writes it elsewhere where it is asked to.

Files of models are as large as the memory. So what was read or written here leaves the page cache again, where the
weights of the running models are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final

# The allocator keeps large blocks for the next one, and the process would never be small again.
CHUNK_BYTES: Final = 256 * 2**10
_WINDOW_BYTES: Final = 128 * 2**20

# Told how many bytes more are done; it may raise to end the work.
Progress = Callable[[int], None]


class SourceError(Exception):
    """A file cannot be read to its end, or became another one meanwhile. The message goes on from its name."""


def hash_file(source: int, progress: Progress, target: int | None = None) -> str:
    """SHA-256, hex, of what the descriptor `source` reads; the same bytes go to `target`, durably.

    Blocks. Raises SourceError, OSError where the target fails, and what `progress` raises.
    """
    before = os.fstat(source)
    digest, chunk = hashlib.sha256(), bytearray(CHUNK_BYTES)
    done = forgotten = 0
    os.posix_fadvise(source, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    os.lseek(source, 0, os.SEEK_SET)
    while count := _read(source, chunk, done):
        piece = memoryview(chunk)[:count]
        digest.update(piece)
        if target is not None:
            _write(target, piece)
        done += count
        if done > before.st_size:
            break
        if done - forgotten >= _WINDOW_BYTES:
            _forget(source, target, forgotten, done)
            forgotten = done
        progress(count)
    after = os.fstat(source)
    if done != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise SourceError("changed while it was read; wait until whoever writes it is done")
    if target is not None:
        os.fsync(target)
    _forget(source, target, forgotten, done)
    return digest.hexdigest()


def _read(source: int, chunk: bytearray, done: int) -> int:
    try:
        return os.readv(source, [chunk])
    except OSError as error:
        raise SourceError(f"cannot be read from byte {done} on: {error.strerror}; is the medium damaged?") from error


def _write(target: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(target, piece) :]


def _forget(source: int, target: int | None, start: int, end: int) -> None:
    """Pages that a process has mapped stay, so a model that is being served loses nothing."""
    os.posix_fadvise(source, start, end - start, os.POSIX_FADV_DONTNEED)
    if target is not None:
        os.fdatasync(target)
        os.posix_fadvise(target, start, end - start, os.POSIX_FADV_DONTNEED)
