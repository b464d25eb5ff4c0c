"""appliance.model_store.safe_open"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from appliance.errors import ChangeRefused
from appliance.model_store.safe_open import open_place, open_regular, reopen, unreadable


def opened(path: Path) -> bytes:
    with open_place(path) as (place, status):
        fd = reopen(place, status, path)
    with os.fdopen(fd, "rb") as file:
        return file.read()


def test_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello")
    assert opened(tmp_path / "a") == b"hello"


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "folder").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("link", "is a symbolic link"),
        ("folder/a", "a folder on the way is a symbolic link"),
        ("a/b", "a folder on the way is a symbolic link"),
        ("pipe", "is no regular file"),
        (".", "is no regular file"),
        ("nothing", "sees no such file"),
        ("a" * 300, "can be no path"),
    ):
        with pytest.raises(ChangeRefused, match=reason):
            opened(tmp_path / name)
    with pytest.raises(ChangeRefused, match="is no regular file"):
        opened(Path("/dev/null"))


def test_a_second_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    with pytest.raises(ChangeRefused, match="has 2 names"):
        opened(tmp_path / "a")


@pytest.mark.parametrize("path", ["a", "../a", "/tmp/../etc/passwd"])
def test_paths_that_depend_on_something(path: str) -> None:
    with pytest.raises(ChangeRefused, match="say the whole path"):
        opened(Path(path))


def test_whoever_takes_its_place_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("checked")
    with open_place(path) as (place, status):
        path.rename(tmp_path / "old")
        path.symlink_to("/etc/passwd")
        with os.fdopen(reopen(place, status, path), "rb") as file:
            assert file.read() == b"checked"


def test_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello")
    (tmp_path / "link").symlink_to("a")
    with open_place(tmp_path) as (place, status):
        assert stat.S_ISDIR(status.st_mode)
        os.close(open_regular(place, "a", tmp_path / "a"))
        for name in ("link", "nothing", "a\0b"):
            with pytest.raises(ChangeRefused):
                open_regular(place, name, tmp_path / name)


def test_it_says_what_to_do_about_rights() -> None:
    error = unreadable(Path("/mnt/m.gguf"), OSError(errno.EACCES, "Permission denied"))
    assert "give that user read access (`setfacl -m u:" in error.message
    assert "Input/output" in unreadable(Path("/mnt/m.gguf"), OSError(errno.EIO, "Input/output error")).message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_file_of_somebody_else() -> None:
    with tempfile.TemporaryDirectory() as name:
        hall = Path(name)
        hall.chmod(0o755)
        (hall / "m.gguf").write_text("hello")
        (hall / "m.gguf").chmod(0o600)
        os.seteuid(64_004)
        try:
            with pytest.raises(
                ChangeRefused, match="the appliance runs as 64004 and may not read this; give that user"
            ):
                opened(hall / "m.gguf")
        finally:
            os.seteuid(0)
