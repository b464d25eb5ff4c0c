"""A rotation of the data key: everything opens afterwards, and nothing needs the older key."""

from __future__ import annotations

from pathlib import Path

from tests.unit.responses.making import Site


async def test_everything_opens_under_the_newest_key(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert site.reseal()
    store = site.store()
    for number in range(3):
        await store.put("alice", site.id(number), b"%d" % number)
    site.ring.rotate("responses")
    await store.put("alice", site.id(3), b"3")
    assert site.reseal()
    site.ring.drop("responses", 1)
    assert [await store.get("alice", site.id(number)) for number in range(4)] == [b"0", b"1", b"2", b"3"]
    store.close()


async def test_a_damaged_one_stays_with_its_key(tmp_path: Path) -> None:
    site = Site(tmp_path)
    store = site.store()
    for number in range(2):
        await store.put("alice", site.id(number), b"x")
    path = site.files()[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    site.ring.rotate("responses")
    assert not site.reseal()
    assert path.read_bytes() == bytes(content)
    await store.delete("alice", path.name.removesuffix(".sealed"))
    assert site.reseal()
    store.close()
