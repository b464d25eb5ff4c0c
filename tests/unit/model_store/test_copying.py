"""appliance.model_store.copying"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.model_store.copying import CHUNK_BYTES, SourceError, hash_file


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CREAT, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_what_is_copied_is_what_is_hashed(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    counts: list[int] = []
    with opened(tmp_path / "a") as source, opened(tmp_path / "b", os.O_WRONLY) as target:
        assert hash_file(source, counts.append, target) == hashlib.sha256(data).hexdigest()
        assert hash_file(source, counts.append) == hashlib.sha256(data).hexdigest(), "again from its start"
    assert (tmp_path / "b").read_bytes() == data
    assert sum(counts) == 2 * size
    assert max(counts, default=0) <= CHUNK_BYTES


@pytest.mark.parametrize("change", [b"more", b""])
def test_a_file_that_somebody_still_writes(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(2 * CHUNK_BYTES))

    def progress(count: int) -> None:
        if change:
            with path.open("ab") as file:
                file.write(change)
        else:
            os.truncate(path, CHUNK_BYTES)

    with opened(path) as source, pytest.raises(SourceError, match="changed while it was read"):
        hash_file(source, progress)


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(SourceError, match="cannot be read from byte 0 on"):
            hash_file(folder, lambda count: None)
    finally:
        os.close(folder)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with opened(tmp_path / "a") as source, pytest.raises(OSError, match="No space left"):
            hash_file(source, lambda count: None, full)
    finally:
        os.close(full)
