"""appliance.security.bundle_folder"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.security.bundle_folder import write_bundle

FILES = {"client.key": b"key", "client.crt": b"certificate"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_that_only_we_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "clients" / "demo"
    write_bundle(folder, FILES)
    assert content(folder) == FILES
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]


def test_a_folder_that_is_there_keeps_what_is_not_renewed(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_bundle(folder, {**FILES, "api.key": b"secret"})
    write_bundle(folder, {"client.crt": b"new"})
    assert content(folder) == {"client.key": b"key", "client.crt": b"new", "api.key": b"secret"}


def test_a_fault_leaves_no_half_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be written"):
        write_bundle(tmp_path / "demo", {"client.key": b"key", "no/such/folder": b""})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(StateError, match="cannot be written"):
        write_bundle(tmp_path / "demo", FILES)
    with pytest.raises(StateError, match="cannot be written"):
        write_bundle(tmp_path / "demo" / "below", FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
