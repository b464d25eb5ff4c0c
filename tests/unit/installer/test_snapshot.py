from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from installer import snapshot
from installer.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for name in ("store", "secrets", "audit", "models", "run"):
        (layout.state / name).mkdir(parents=True)
        (layout.state / name / "file").write_text("then")
    (layout.state / "secrets").chmod(0o700)
    (layout.state / "secrets/file").chmod(0o600)
    (layout.state / "store/link").symlink_to("file")
    (layout.state / "link").symlink_to("store")
    return layout


def test_the_state_comes_back_as_it_was_but_for_models_and_audit(layout: Layout) -> None:
    snapshot.take(layout, "1.0.0")
    assert layout.snapshots.stat().st_mode & 0o777 == 0o700
    for path in layout.state.glob("*/file"):
        path.write_text("now")
    (layout.state / "store/new").touch()
    (layout.state / "link").unlink()
    for _ in range(2):
        snapshot.bring_back(layout, "1.0.0")
        assert (layout.state / "link").readlink() == Path("store")
        found = {
            path.parent.name: path.read_text() for path in layout.state.glob("*/file") if path.parent.name != "link"
        }
        assert found == {"store": "then", "secrets": "then", "audit": "now", "models": "now", "run": "now"}
    assert not (layout.state / "store/new").exists()
    assert (layout.state / "store/link").readlink() == Path("file")
    assert (layout.state / "secrets").stat().st_mode & 0o777 == 0o700
    assert (layout.state / "secrets/file").stat().st_mode & 0o777 == 0o600


def test_a_copy_is_private_until_its_modes_are_set(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_others: list[Path] = []

    def copystat(source: str, target: str, *, follow_symlinks: bool = True) -> None:
        above = (folder for folder in Path(target).parents if folder.is_relative_to(layout.root / "var/lib"))
        if not any(folder.stat().st_mode & 0o077 == 0 for folder in above):
            open_to_others.append(Path(target))
        real(source, target, follow_symlinks=follow_symlinks)

    real = shutil.copystat
    monkeypatch.setattr(shutil, "copystat", copystat)
    snapshot.take(layout, "1.0.0")
    snapshot.bring_back(layout, "1.0.0")
    assert open_to_others == []
    assert not [path for path in layout.state.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_stay(layout: Layout) -> None:
    os.chown(layout.state / "store/file", 1234, 1235)
    os.chown(layout.state / "store", 1234, 1235)
    snapshot.take(layout, "1.0.0")
    snapshot.bring_back(layout, "1.0.0")
    for path in (layout.state / "store", layout.state / "store/file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_socket_is_no_state(layout: Layout) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(layout.state / "store/s"))
        snapshot.take(layout, "1.0.0")
    assert not (layout.snapshots / "1.0.0/store/s").exists()


def test_a_half_snapshot_is_none(layout: Layout) -> None:
    (layout.snapshots / "1.0.0.partial").mkdir(parents=True)
    assert not snapshot.exists(layout, "1.0.0")
    snapshot.take(layout, "1.0.0")
    snapshot.take(layout, "2.0.0")
    assert snapshot.exists(layout, "1.0.0")
    snapshot.forget(layout, frozenset({"2.0.0"}))
    assert [path.name for path in layout.snapshots.iterdir()] == ["2.0.0"]


def test_a_disk_without_room_for_it_is_told_before(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert snapshot.lack_bytes(layout) == 0
    with (layout.state / "store/large").open("wb") as large, (layout.state / "models/larger").open("wb") as larger:
        large.truncate(2**30)
        # Models are not in it.
        larger.truncate(2**36)
    (layout.state / "elsewhere").symlink_to("models")
    # The state may have a disk of its own, with room for its models.
    free = {layout.snapshots.parent: 2**30, layout.state: 2**40}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    assert 2**28 <= snapshot.lack_bytes(layout) < 2**28 + 2**16
