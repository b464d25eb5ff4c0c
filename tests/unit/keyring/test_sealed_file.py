"""appliance.keyring.sealed_file"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.keyring.keyring import OVERHEAD_BYTES, Keyring
from appliance.keyring.sealed_file import SealedFiles


@pytest.fixture
def files(tmp_path: Path, ring: Keyring) -> SealedFiles:
    (tmp_path / "pki").mkdir()
    return SealedFiles(tmp_path, ring.cipher("credentials"))


def test_what_is_written_is_read(files: SealedFiles) -> None:
    files.write("pki/ca.key", b"first")
    files.write("pki/ca.key", b"the second content")
    assert files.read("pki/ca.key", 1024) == b"the second content"
    on_disk = (files.root / "pki/ca.key").read_bytes()
    assert b"content" not in on_disk
    assert len(on_disk) == len(b"the second content") + OVERHEAD_BYTES
    assert (files.root / "pki/ca.key").stat().st_mode & 0o777 == 0o600


def test_files_cannot_be_exchanged(files: SealedFiles) -> None:
    files.write("pki/a", b"a")
    files.write("pki/b", b"b")
    (files.root / "pki/a").rename(files.root / "pki/b")
    with pytest.raises(StateError, match=r"the credentials record 'file\|pki/b' is damaged, or was sealed as another"):
        files.read("pki/b", 1024)


def test_a_record_is_no_file(files: SealedFiles, ring: Keyring) -> None:
    (files.root / "x").write_bytes(ring.seal("credentials", "x", b"record"))
    (files.root / "x").chmod(0o600)
    with pytest.raises(StateError):
        files.read("x", 1024)


def test_it_is_renewed_once_after_a_rotation(files: SealedFiles, ring: Keyring) -> None:
    files.write("a", b"content")
    assert not files.renew("a", 1024)
    ring.rotate("credentials")
    assert files.renew("a", 1024)
    assert not files.renew("a", 1024)
    ring.drop("credentials", 1)
    assert files.read("a", 1024) == b"content"


def test_the_limit_is_of_the_plaintext(files: SealedFiles) -> None:
    files.write("a", b"x" * 10)
    assert files.read("a", 10) == b"x" * 10
    with pytest.raises(StateError, match="is larger than"):
        files.read("a", 9)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a//b", "a/./b", "a/"])
def test_a_name_has_one_spelling(files: SealedFiles, name: str) -> None:
    with pytest.raises(AssertionError):
        files.write(name, b"")
