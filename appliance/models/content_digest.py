"""Tells one model file from another by parts of it: reading all of one may take minutes, and a load must not wait.

The files of a model count as one run of bytes, in order. Into the digest go their sizes, the first HEAD_BYTES (a header
lies there: metadata, tokenizer, most often all of the tensors' names), and BLOCKS pieces of the rest, evenly spaced,
the last one at the end. Other weights make another digest; whoever changes a file so that they do not is found by its
SHA-256 alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from appliance.errors import StateError
from appliance.models.file_identity import FileIdentity, files_of

HEAD_BYTES: Final = 8 * 2**20
BLOCKS: Final = 64
BLOCK_BYTES: Final = 64 * 1024


def content_digest(path: str) -> tuple[FileIdentity, str]:
    """Of a model, and which files it was read from. Reads 12 MiB at most; blocks. Raises OSError and StateError."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_opened(file)) for file in files_of(Path(path))]
        statuses = [os.fstat(file) for file in files]
        sizes = [status.st_size for status in statuses]
        digest = hashlib.sha256(repr(sizes).encode())
        for start, end in pieces(sum(sizes)):
            for file, begin, count in _in_files(sizes, start, end):
                for part in _parts(files[file], begin, count):
                    digest.update(part)
    return FileIdentity.of_status(statuses), digest.hexdigest()


def pieces(total: int) -> Iterator[tuple[int, int]]:
    """What is read of so many bytes: from where, up to where. In order; none lies over another. Pure."""
    head = min(HEAD_BYTES, total)
    yield 0, head
    rest = total - head
    if rest <= BLOCKS * BLOCK_BYTES:
        yield head, total
        return
    for number in range(BLOCKS):
        start = head + (rest - BLOCK_BYTES) * number // (BLOCKS - 1)
        yield start, start + BLOCK_BYTES


def _in_files(sizes: Sequence[int], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """A run of bytes as parts of files: which file, from where in it, how many."""
    base = 0
    for number, size in enumerate(sizes):
        first, last = max(start, base), min(end, base + size)
        if first < last:
            yield number, first - base, last - first
        base += size


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    # A FIFO would not be opened before somebody writes to it.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise StateError(f"{path} is no regular file")
        yield file
    finally:
        os.close(file)


def _parts(file: int, start: int, count: int) -> Iterator[bytes]:
    # All of it at once would stay with the process: the allocator keeps large blocks for the next one.
    while count:
        part = os.pread(file, min(count, BLOCK_BYTES), start)
        if not part:
            raise StateError("the model's file became shorter while it was read")
        yield part
        start, count = start + len(part), count - len(part)
