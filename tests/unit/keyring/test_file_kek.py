"""appliance.keyring.file_kek"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.keyring.file_kek import FileKek
from tests.unit.keyring.conftest import new_kek, write_secret


def test_the_newest_wraps_and_older_ones_unwrap(tmp_path: Path) -> None:
    first = FileKek.open(tmp_path, create=True)
    old = first.wrap(b"old", b"c")
    second = first.successor()
    new = second.wrap(b"new", b"c")
    reopened = FileKek.open(tmp_path, create=False)
    assert (first.newest, second.newest, reopened.newest) == (1, 2, 2)
    assert reopened.id == second.id != first.id
    assert (reopened.unwrap(old, b"c"), reopened.unwrap(new, b"c")) == (b"old", b"new")
    with pytest.raises(StateError, match=r"kek\.2 is missing; restore"):
        first.unwrap(new, b"c")


def test_files_are_private_and_hold_32_bytes(tmp_path: Path) -> None:
    FileKek.open(tmp_path, create=True).successor()
    for generation in (1, 2):
        path = tmp_path / f"kek.{generation}"
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_bytes()) == 32


def test_it_opens_once_made(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"kek\.1 is missing"):
        FileKek.open(tmp_path, create=False)
    assert FileKek.open(tmp_path, create=True).id == FileKek.open(tmp_path, create=True).id


def test_other_names_are_none_of_its_business(tmp_path: Path) -> None:
    for name in ("kek.0", "kek.01", "kek.x", "kek.1.bak", "pepper.1", ".kek.7.tmp"):
        (tmp_path / name).write_bytes(b"x")
    assert FileKek.open(tmp_path, create=True).newest == 1


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    write_secret(tmp_path / "kek.1", content)
    with pytest.raises(StateError, match=r"kek\.1 .*(restore|damaged)"):
        FileKek.open(tmp_path, create=True)


def test_a_generation_that_was_exchanged_is_named(tmp_path: Path, kek: FileKek) -> None:
    wrapped = kek.wrap(b"x", b"c")
    with pytest.raises(StateError, match=r"kek\.1:[0-9a-f]{16} in .* is another key"):
        new_kek(tmp_path / "other").unwrap(wrapped, b"c")


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        FileKek.open(tmp_path / "missing", create=True)
