"""After the rotation of a data key: sealed anew, whole, and the old key can go."""

from __future__ import annotations

import pytest

from appliance.access_config import Capture
from appliance.capture.day_file import claim
from appliance.capture.prompt_capture import PromptCapture
from tests.unit.capture.making import ON, Site, exchange
from tests.waiting import eventually


def test_older_files_open_under_the_new_key_alone(site: Site) -> None:
    assert site.reseal()
    for name in ("a", "b"):
        site.write(exchange(name), exchange(name + "2"))
    before = [path.read_bytes() for path in site.paths]
    assert site.reseal()
    assert [path.read_bytes() for path in site.paths] == before, "what is current stays as it is"
    site.ring.rotate("capture")
    assert site.reseal()
    site.ring.drop("capture", 1)
    assert site.ids() == ["b2", "b", "a2", "a"]
    assert [len(site.find(name).records) for name in ("a", "b2")] == [1, 1]
    assert all(new != old for new, old in zip((path.read_bytes() for path in site.paths), before, strict=True))
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in site.paths)


def test_the_open_file_is_left_by_its_writer(site: Site) -> None:
    writer = site.writer()
    writer.put(exchange("old"))
    eventually(lambda: writer.status.kept == 1)
    site.ring.rotate("capture")
    assert not site.reseal(), "the writer still has it"
    eventually(site.reseal)
    site.ring.drop("capture", 1)
    writer.put(exchange("new"))
    writer.close()
    assert site.ids() == ["new", "old"]
    assert len(site.paths) == 2


def test_a_request_after_a_rotation_begins_a_file(site: Site) -> None:
    writer = site.writer()
    writer.put(exchange("old"))
    eventually(lambda: writer.status.kept == 1)
    site.ring.rotate("capture")
    writer.put(exchange("new"))
    eventually(lambda: writer.status.kept == 2)
    assert len(site.paths) == 2
    assert site.reseal(), "the file that is open was begun with the new key"
    site.ring.drop("capture", 1)
    writer.close()
    assert site.ids() == ["new", "old"]


def test_while_requests_come_and_keys_rotate_none_is_lost(site: Site) -> None:
    writer = site.writer(Capture(enabled=True, disk_bytes_max=2**20))
    generation = 1
    for number in range(200):
        writer.put(exchange(f"r{number}"))
        if number % 40 == 20:
            newest = site.ring.rotate("capture")
            eventually(site.reseal)
            while generation < newest:
                site.ring.drop("capture", generation)
                generation += 1
    writer.close()
    assert writer.status.lost == 0
    assert site.ids() == [f"r{number}" for number in reversed(range(200))]


def test_a_file_that_is_damaged_keeps_its_key(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write(exchange("good"))
    site.write(exchange("bad"))
    data = bytearray(site.paths[1].read_bytes())
    data[-1] ^= 1
    site.paths[1].write_bytes(data)
    site.ring.rotate("capture")
    assert not site.reseal()
    assert "is not encrypted anew" in caplog.text
    assert site.paths[1].read_bytes() == data
    site.paths[1].unlink()
    assert site.reseal()


def test_what_a_crash_left_is_removed_and_a_torn_end_not_copied(site: Site) -> None:
    site.write(exchange("whole"))
    (path,) = site.paths
    (site.folder / f".{path.name}.abcd.tmp").write_bytes(b"half")
    with path.open("ab") as file:
        file.write(b"\0\0\0\x50torn")
    site.ring.rotate("capture")
    assert site.reseal()
    assert list(site.folder.iterdir()) == [path]
    assert path.read_bytes()[-4:] != b"torn"
    assert site.ids() == ["whole"]


def test_it_does_not_bring_back_what_is_being_removed(site: Site) -> None:
    site.write(exchange())
    (path,) = site.paths
    held = claim(path)
    assert held is not None
    with held:
        site.ring.rotate("capture")
        assert not site.reseal()
        path.unlink()
        assert site.reseal()
    assert not path.exists()


def test_off_there_is_nothing_to_seal(site: Site) -> None:
    capture = PromptCapture(site.folder, site.cipher, site.clock)
    site.ring.rotate("capture")
    assert site.reseal()
    assert not site.folder.exists()
    capture.configure(ON)
    capture.close()
