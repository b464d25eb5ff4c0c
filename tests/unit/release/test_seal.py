from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from installer.errors import Refused
from installer.manifest import NAME, SIGNATURE
from release.seal import seal
from release.signing import public_pem
from tests.unit.installer.made import FACTS, KEY, bundle


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = bundle(tmp_path / "one"), tmp_path / "two"
    two.mkdir()
    # Another order, other times, another umask.
    for name in ("wheels/one.whl", "appliance-setup"):
        (two / name).parent.mkdir(exist_ok=True)
        (two / name).write_bytes((tmp_path / "one/stage" / name).read_bytes())
        (two / name).chmod(0o600)
        os.utime(two / name, (1, 1))
    seal(two, FACTS, KEY, tmp_path / "two.tar")
    assert one.read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_plain_openssl_proves_it(tmp_path: Path) -> None:
    with tarfile.open(bundle(tmp_path)) as tar:
        tar.extractall(tmp_path, filter="data", members=[tar.getmember(NAME), tar.getmember(SIGNATURE)])
    (tmp_path / "key.pem").write_bytes(public_pem(KEY))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", NAME, "-sigfile"]
    assert subprocess.run([*command, SIGNATURE], cwd=tmp_path, capture_output=True).returncode == 0
    with (tmp_path / NAME).open("ab") as manifest:
        manifest.write(b" ")
    assert subprocess.run([*command, SIGNATURE], cwd=tmp_path, capture_output=True).returncode != 0


def test_a_bundle_that_its_installer_would_refuse_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        bundle(tmp_path, {"a name": b""})
    assert not list(tmp_path.glob("*.tar*"))
