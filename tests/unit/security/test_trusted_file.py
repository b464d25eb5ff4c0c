"""Files that decide who gets in: who may read them, and who may have written them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.security.trusted_file import read_trusted


def test_readable_to_all(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"12345")
    path.chmod(0o644)
    assert read_trusted(path, 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        read_trusted(path, 4)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_writable_to_others(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"")
    path.chmod(mode)
    with pytest.raises(ValueError, match="can be changed by other users"):
        read_trusted(path, 5)


def test_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="not a regular file"):
        read_trusted(tmp_path / "fifo", 5)
    for name, says in (("none", "No such file"), (".", "Is a directory")):
        with pytest.raises(ValueError, match=says):
            read_trusted(tmp_path / name, 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"")
    os.chown(path, 65534, 65534)
    with pytest.raises(ValueError, match="belongs to another user"):
        read_trusted(path, 5)
