"""appliance.audit.log_file: whole lines or none, by real limits of the kernel."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.audit.log_file import BALLAST_BYTES, Ballast, LogFile


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel takes the bytes up to the limit without an error, as a nearly full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_short_write_leaves_whole_lines(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log", create=True)
    assert file.append(b"first\n") == 6
    with file_size_limit(20):
        assert file.append(b"second\nthird line\nfourth\n") == 7
        assert file.append(b"a line too long\n") == 0
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"
    assert file.append(b"third\n") == 6 and file.size == 19
    assert file.intruded() is None
    file.close()


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    calls = []

    def write(fd: int, data: bytes | memoryview) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            os.write(fd, data[:3])
            raise OSError(5, "bad disk")
        return os.write(fd, data)

    file = LogFile(tmp_path / "log", create=True, write=write)
    file.append(b"one\n")
    with pytest.raises(OSError, match="bad disk"):
        file.append(b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"
    assert file.append(b"two\n") == 4


def test_a_file_is_created_once_and_never_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        LogFile(tmp_path / "link", create=True)
    LogFile(tmp_path / "log", create=True).close()
    with pytest.raises(FileExistsError):
        LogFile(tmp_path / "log", create=True)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_the_ballast_is_reserved_whole_or_not(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")
    with file_size_limit(4096), pytest.raises(OSError):
        ballast.reserve()
    assert list(tmp_path.iterdir()) == []
    ballast.reserve()
    held = (tmp_path / "ballast").stat()
    assert held.st_size == BALLAST_BYTES and held.st_blocks * 512 >= BALLAST_BYTES
    ballast.reserve()
    assert (tmp_path / "ballast").stat().st_ino == held.st_ino
    assert ballast.release() and not ballast.release() and not ballast.held
