"""appliance.model_store.file_hashes"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.model_store.file_hashes import FileHashes
from appliance.model_store.hashes import sums_text
from appliance.model_store.store import ModelStore
from tests.unit.model_store.conftest import Put

FAST = 1e6


class Site:
    """A store, and a place for what is remembered."""

    def __init__(self, folder: Path, store: ModelStore) -> None:
        self.folder = folder
        self.store = store
        self.opened: list[FileHashes] = []

    def hashes(self, mib_per_second: float = FAST) -> FileHashes:
        """As after a start."""
        self.opened.append(FileHashes(self.store, self.folder / "file_hashes.json", lambda: mib_per_second))
        return self.opened[-1]

    def file(self, name: str = "a model.gguf", data: bytes = b"GGUF") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


@pytest.fixture
async def site(tmp_path: Path, store: ModelStore) -> AsyncIterator[Site]:
    site = Site(tmp_path, store)
    yield site
    for hashes in site.opened:
        hashes.close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_file_is_read_once(site: Site) -> None:
    path = site.file()
    assert await site.hashes().sha256_of(str(path)) == sha256(b"GGUF")
    # So slow that reading it again would not end.
    slow = site.hashes(1e-9)
    assert await slow.sha256_of(str(path)) == sha256(b"GGUF")
    path.write_bytes(b"GGUG")
    assert await site.hashes().sha256_of(str(path)) == sha256(b"GGUG")


async def test_a_link_is_what_it_points_to(site: Site) -> None:
    link = site.folder / "link.gguf"
    link.symlink_to(site.file())
    assert await site.hashes().sha256_of(str(link)) == sha256(b"GGUF")


async def test_several_files_are_hashed_as_sha256sum_lists_them(site: Site) -> None:
    names = [f"m-{number:05}-of-00002.gguf" for number in (1, 2)]
    paths = [site.file(name, name.encode()) for name in names]
    expected = sha256(sums_text({name: sha256(name.encode()) for name in names}))
    assert await site.hashes().sha256_of(str(paths[0])) == expected
    paths[1].unlink()
    assert await site.hashes().sha256_of(str(paths[0])) is None


async def test_an_imported_model_is_not_read_while_nothing_touched_it(site: Site, put: Put) -> None:
    manifest = put()
    path = site.store.path(manifest)
    data = path.read_bytes()
    # So slow that reading it would not end.
    assert await site.hashes(1e-9).sha256_of(str(path)) == sha256(data)
    path.write_bytes(data[:-1] + b"!")
    assert await site.hashes().sha256_of(str(path)) == sha256(data[:-1] + b"!")


async def test_reading_ends_with_who_wanted_it(site: Site) -> None:
    path = site.folder / "large.gguf"
    with path.open("wb") as file:
        file.truncate(2**34)
    hashes = site.hashes(mib_per_second=100)
    async with asyncio.TaskGroup() as group:
        wanted = group.create_task(hashes.sha256_of(str(path)))
        await asyncio.sleep(0.05)
        wanted.cancel()
    assert wanted.cancelled()
    began = time.monotonic()
    assert await hashes.sha256_of(str(site.file())) == sha256(b"GGUF")
    hashes.close()
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("damage", [b"{", b'{"x":{"identity":[],"sha256":1}}'])
async def test_damaged_memory_is_begun_anew(site: Site, damage: bytes) -> None:
    memory = site.file("file_hashes.json", damage)
    memory.chmod(0o600)
    path = site.file()
    assert await site.hashes().sha256_of(str(path)) == sha256(b"GGUF")
    assert await site.hashes(1e-9).sha256_of(str(path)) == sha256(b"GGUF")


async def test_what_cannot_be_read_has_none(site: Site) -> None:
    os.mkfifo(site.folder / "fifo")
    for name in ("missing", "fifo", "."):
        assert await site.hashes().sha256_of(str(site.folder / name)) is None
