"""Keeping, finding, forgetting: on real files with real keys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.access_config import Responses
from appliance.errors import StateError
from appliance.responses.files import owner_of
from tests.unit.responses.making import Site, made_id


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_only_its_owner_finds_it(site: Site) -> None:
    store, asked = site.store(), site.id()
    assert await store.get("alice", asked) is None
    await store.put("alice", asked, b"my secret")
    assert await store.get("alice", asked) == b"my secret"
    assert await store.get("bob", asked) is None
    assert not await store.delete("bob", asked)
    assert await store.delete("alice", asked)
    assert not await store.delete("alice", asked)
    assert await store.get("alice", asked) is None
    store.close()


async def test_it_is_encrypted_and_private(site: Site) -> None:
    store = site.store()
    await store.put("alice", site.id(), b"my secret")
    (path,) = site.files()
    assert b"my secret" not in path.read_bytes()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    store.close()
    again = site.store()
    assert await again.get("alice", site.id()) == b"my secret"
    again.close()


async def test_nothing_is_touched_before_the_first(site: Site) -> None:
    store = site.store()
    store.prune()
    assert not await store.delete("alice", site.id())
    assert await store.get("alice", "../../etc/passwd") is None
    assert not site.folder.exists()
    store.close()


async def test_a_file_cannot_stand_in_for_another(site: Site) -> None:
    store = site.store()
    await store.put("alice", site.id(1), b"one")
    await store.put("bob", site.id(2), b"two")
    mine = site.folder / owner_of("alice") / f"{site.id(1)}.sealed"
    theirs = site.folder / owner_of("bob") / f"{site.id(2)}.sealed"
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(StateError, match="damaged"):
        await store.get("alice", site.id(1))
    mine.write_bytes(b"short")
    with pytest.raises(StateError, match="damaged"):
        await store.get("alice", site.id(1))
    store.close()


async def test_it_expires(site: Site) -> None:
    store, asked = site.store(Responses(retention_days=2)), site.id()
    await store.put("alice", asked, b"x")
    site.clock.advance(days=1, hours=23)
    store.prune()
    assert await store.get("alice", asked) == b"x"
    site.clock.advance(hours=1)
    assert await store.get("alice", asked) is None
    assert len(site.files()) == 1
    await asyncio.to_thread(store.prune)
    assert site.files() == []
    assert [path.name for path in site.folder.iterdir()] == [".lock"]
    store.close()


async def test_room_is_made_for_the_newest(site: Site) -> None:
    store = site.store(Responses(disk_bytes_max=2**20))
    at = site.clock().timestamp()
    ids = [made_id(number, at + number) for number in range(10)]
    for asked in ids:
        await store.put("alice", asked, b"x" * 200_000)
    assert 1 <= len(site.files()) <= 5
    assert await store.get("alice", ids[-1]) is not None
    assert await store.get("alice", ids[0]) is None
    store.close()


async def test_what_a_crash_left_is_swept(site: Site) -> None:
    store = site.store()
    await store.put("alice", site.id(), b"x")
    (path,) = site.files()
    (path.parent / ".half.tmp").write_bytes(b"half")
    await asyncio.to_thread(store.prune)
    assert [left.name for left in path.parent.iterdir()] == [path.name]
    store.close()


async def test_a_disk_that_fails_keeps_nothing(site: Site) -> None:
    site.folder.write_text("in the way")
    store = site.store()
    with pytest.raises(OSError, match=r"exists|directory"):
        await store.put("alice", site.id(), b"x")
    store.prune()
    store.close()
