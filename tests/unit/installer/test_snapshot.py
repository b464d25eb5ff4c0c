from __future__ import annotations

import os
import shutil
import socket
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from appliance.audit.journal import newest_seal_key_id
from appliance.audit.keys import SealKey
from appliance.audit.record import Actor
from appliance.audit.verify import verify
from appliance.config import Config
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import PURPOSES
from appliance.security.credentials import AllowEntry, AllowState, Credentials
from appliance.security.key_changes import revoke_key
from appliance.security.opening import Security, open_security
from appliance.security.refusal import Refusal
from appliance.security.resealing import reseal
from appliance.security.revocations import revoke
from appliance.security.seal_key_changes import add_seal_key
from appliance.state_dir import StateDir
from installer import snapshot
from installer.layout import Layout
from tests.unit.security.making import client_of


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for name in ("store", "store/capture", "store/responses", "secrets", "clients/webapp", "audit", "models", "run"):
        (layout.state / name).mkdir(parents=True)
        (layout.state / name / "file").write_text("then")
    (layout.state / "store/history").mkdir(mode=0o700)
    (layout.state / "store/history/file").write_text("then")
    (layout.state / "store").chmod(0o700)
    (layout.state / "store/file").chmod(0o600)
    (layout.state / "store/link").symlink_to("file")
    (layout.state / "link").symlink_to("store")
    return layout


def contents(layout: Layout) -> dict[str, str]:
    return {
        str(path.parent.relative_to(layout.state)): path.read_text()
        for path in layout.state.rglob("file")
        if not path.parent.is_symlink()
    }


def test_what_a_release_may_have_changed_comes_back_and_the_rest_stays(layout: Layout) -> None:
    snapshot.take(layout, "1.0.0")
    assert layout.snapshots.stat().st_mode & 0o777 == 0o700
    for path in layout.state.rglob("file"):
        path.write_text("now")
    for new in ("store/new", "clients/new", "before.backup"):
        (layout.state / new).touch()
    (layout.state / "link").unlink()
    for _ in range(2):
        snapshot.bring_back(layout, "1.0.0")
        assert (layout.state / "link").readlink() == Path("store")
        stays = ("store/capture", "store/responses", "secrets", "clients/webapp", "audit", "models", "run")
        assert contents(layout) == {"store": "then", "store/history": "then", **dict.fromkeys(stays, "now")}
    assert not (layout.state / "store/new").exists()
    assert (layout.state / "clients/new").exists()
    assert (layout.state / "before.backup").exists()
    assert (layout.state / "store/link").readlink() == Path("file")
    assert (layout.state / "store").stat().st_mode & 0o777 == 0o700
    assert (layout.state / "store/history").stat().st_mode & 0o777 == 0o700
    assert (layout.state / "store/file").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_gone_comes_back_with_its_mode(layout: Layout) -> None:
    snapshot.take(layout, "1.0.0")
    shutil.rmtree(layout.state / "store")
    snapshot.bring_back(layout, "1.0.0")
    assert (layout.state / "store/file").read_text() == "then"
    assert (layout.state / "store").stat().st_mode & 0o777 == 0o700


def test_a_snapshot_has_keys_for_an_emergency_and_nothing_whose_life_it_would_lengthen(layout: Layout) -> None:
    snapshot.take(layout, "1.0.0")
    found = {str(path.parent.relative_to(layout.snapshots / "1.0.0")) for path in layout.snapshots.rglob("file")}
    assert found == {"store", "store/history", "secrets", "clients/webapp"}
    for _ in range(2):
        snapshot.forget_keys(layout, "1.0.0")
        assert {path.name for path in (layout.snapshots / "1.0.0").iterdir()} == {"store", "link"}
    snapshot.bring_back(layout, "1.0.0")
    assert contents(layout)["secrets"] == "then"


def opened(state: StateDir) -> Security:
    return open_security(state, Config(), state.path, {}, create=True)


async def test_what_was_revoked_or_replaced_since_does_not_count_again(layout: Layout) -> None:
    """Of a real state: a key and a principal revoked, an address let in, and every kind of key replaced."""
    state = StateDir(layout.state)
    shutil.rmtree(state.path)
    state.prepare()
    security = opened(state)
    demo = client_of("demo", {path.name: path.read_bytes() for path in (state.clients / "demo").iterdir()})
    security.office.access.authenticate(demo.peer(), [demo.bearer])
    security.close()
    snapshot.take(layout, "1.0.0")

    security = opened(state)
    office, fresh = security.office, SealKey.generate()

    def changed(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        document = revoke(revoke_key(document, demo.key.kid, now), "principal", "bob", now, by="anna", reason="")
        allowed = AllowState.of((AllowEntry(network="10.0.0.0/24"),))
        return add_seal_key(replace(document, allow=allowed), newest_seal_key_id(state.audit), fresh), None

    await office.change(Actor(principal="anna"), "client.revoke", "bob", changed)
    await office.audit.replace_seal_key(fresh)
    for purpose in PURPOSES:
        security.keyring.rotate(purpose)
    await office.audit.close_segment()
    reseal(security.keyring, office.store, state)
    assert all(key.newest for key in security.keyring.status())
    security.keyring.rekey(FileKek.open(state.secrets, create=False).successor())
    (state.secrets / "kek.1").unlink()
    document = office.document
    security.close()

    snapshot.bring_back(layout, "1.0.0")
    security = opened(state)
    assert security.office.document == document
    assert security.office.audit.degraded == ()
    assert security.office.access.view.revocations.principals == {"bob"}
    with pytest.raises(Refusal):
        security.office.access.authenticate(demo.peer(), [demo.bearer])
    security.close()
    assert verify(state.audit, cipher=security.keyring.cipher("audit")).result == "incomplete"


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
    assert snapshot.lack_bytes(layout, back=True)[0] == 0
    with (layout.state / "store/large").open("wb") as large, (layout.state / "models/larger").open("wb") as larger:
        large.truncate(2**30)
        # Models are not in it.
        larger.truncate(2**36)
    (layout.state / "elsewhere").symlink_to("models")
    free = {layout.snapshots.parent: 2**30, layout.state: 2**40}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    lack, folder = snapshot.lack_bytes(layout, back=False)
    assert (2**28 <= lack < 2**28 + 2**16, folder) == (True, layout.snapshots)
    # The way back wants as much again, here on the same disk.
    free[layout.snapshots.parent] = 2**31
    lack, folder = snapshot.lack_bytes(layout, back=True)
    assert (2**28 <= lack < 2**28 + 2**16, folder) == (True, layout.snapshots)
    assert snapshot.lack_bytes(layout, back=False)[0] == 0


def test_the_state_may_have_a_disk_of_its_own(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> object:
        about = real(path, follow_symlinks=follow_symlinks)
        if path != layout.state:
            return about
        return SimpleNamespace(st_dev=about.st_dev + 1, st_mode=about.st_mode)

    free = {layout.snapshots.parent: 2**40, layout.state: 2**20}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    monkeypatch.setattr(Path, "stat", stat)
    assert snapshot.lack_bytes(layout, back=False)[0] == 0
    lack, folder = snapshot.lack_bytes(layout, back=True)
    assert (lack > 0, folder) == (True, layout.state)
