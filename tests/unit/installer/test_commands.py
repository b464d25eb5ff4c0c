from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from installer import journal, snapshot
from installer.changeover import Changeover
from installer.commands import Setup
from installer.errors import Refused, StepFailed
from installer.host import Host
from installer.journal import Change
from installer.layout import Layout
from installer.manifest import NAME
from installer.release_folder import current_release
from installer.restoring import Backup
from installer.trust import CARRIED, keep
from release.signing import public_pem
from tests.unit.installer.made import FILES, KEY, Recorded, bundle, release
from tests.unit.installer.test_host import FIT


class Bench:
    """A host on which 1.0.0 was installed and is well."""

    def __init__(self, root: Path, ill: frozenset[str] = frozenset()) -> None:
        self.layout = Layout(root)
        self.told: list[str] = []
        self.host: Host = FIT
        self.services = Recorded(self.layout, ill, lambda _: None)
        self.value = self.layout.state / "store/value"
        self.value.parent.mkdir(parents=True)
        self.value.write_text("one")
        self.layout.product.mkdir(parents=True)
        keep(self.layout, {"release.pem": public_pem(KEY)})

    def with_earlier(self) -> Bench:
        """And 2.0.0 before it."""
        self.with_release()
        release(self.layout, "2.0.0", sequence=6)
        # What a failed upgrade has left does not count.
        release(self.layout, "3.0.0", sequence=7)
        self.layout.previous.symlink_to("releases/2.0.0")
        return self

    def with_release(self) -> Bench:
        Changeover(self.layout, self.services, lambda _: None, 1).first(release(self.layout, "1.0.0", sequence=5))
        self.services.start()
        return self

    @property
    def setup(self) -> Setup:
        return Setup(
            layout=self.layout,
            services=self.services,
            tell=self.told.append,
            ask=lambda _: False,
            look=lambda manifest, folder: self.host,
            now=lambda: "2026-01-01T00:00:00+00:00",
            gate_seconds=1,
        )

    def bundle(self, **facts: object) -> Path:
        return bundle(self.layout.root / "stick", {**FILES, CARRIED: public_pem(KEY)}, **facts)

    def installed(self) -> Path:
        """The bundle that 1.0.0 was installed from."""
        path = self.bundle(sequence=5)
        with tarfile.open(path) as tar:
            tar.extract(NAME, self.layout.current, filter="data")
        return path

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.layout.root.rglob("*") if path.is_file() and "stick" not in path.parts)
        return {str(path): path.read_bytes() for path in found}

    def history(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.layout.history.read_text().splitlines()]


Act = Callable[[Bench], None]


@pytest.mark.parametrize(
    "act",
    [
        lambda bench: bench.setup.upgrade(bench.bundle(version="2.0.0", sequence=6), downgrade=False, plan=True),
        lambda bench: bench.setup.upgrade(bench.bundle(version="0.9.0", sequence=4), downgrade=True, plan=True),
        lambda bench: bench.setup.install(bench.installed(), None, None, None, plan=True),
        lambda bench: bench.setup.uninstall(purge=True, yes=True, plan=True),
        lambda bench: bench.setup.verify(bench.bundle(), None),
    ],
)
def test_a_plan_says_and_does_nothing(tmp_path: Path, act: Act) -> None:
    bench = Bench(tmp_path).with_release()
    bench.installed()
    before = bench.files()
    act(bench)
    assert bench.told
    assert bench.files() == before
    assert bench.services.running == "1.0.0"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda bench: bench.setup.upgrade(bench.bundle(version="0.9.0"), downgrade=False, plan=False), "older"),
        (lambda bench: bench.setup.install(bench.bundle(version="2.0.0"), None, None, None, plan=False), "upgrade"),
        (lambda bench: bench.setup.install(bench.bundle(sequence=5), None, None, None, plan=False), "another build"),
        (lambda bench: bench.setup.rollback(restore_state=False, plan=False), "no release to go back"),
        (lambda bench: bench.setup.uninstall(purge=True, yes=False, plan=False), "nothing was removed"),
        (
            lambda bench: bench.setup.install(
                bench.bundle(), None, None, Backup(Path("/none"), Path("/none")), plan=False
            ),
            "/none is not there",
        ),
    ],
)
def test_what_is_refused_touches_nothing(tmp_path: Path, act: Act, says: str) -> None:
    bench = Bench(tmp_path).with_release()
    before = bench.files()
    with pytest.raises(Refused, match=says):
        act(bench)
    assert bench.files() == before
    assert bench.services.running == "1.0.0"


def test_a_host_that_is_not_ready_is_not_touched(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.host = replace(FIT, missing=("openssl", "libstdc++.so.6"), systemd=249)
    before = bench.files()
    with pytest.raises(Refused) as refused:
        bench.setup.install(bench.bundle(), None, None, None, plan=False)
    assert [line[:1] for line in str(refused.value).splitlines()] == ["t", "-", "-", "-"]
    assert bench.files() == before


def test_an_upgrade_without_room_for_a_snapshot_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path).with_release()
    monkeypatch.setattr(snapshot, "lack_bytes", lambda layout, back: (5 * 2**20, layout.snapshots))
    with pytest.raises(Refused, match="lacks 5 MiB"):
        bench.setup.upgrade(bench.bundle(version="2.0.0", sequence=6), downgrade=False, plan=False)
    assert bench.services.running == "1.0.0"


def test_a_release_whose_python_is_gone_is_made_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path).with_release()
    (bench.layout.current / "venv/bin/python").unlink()
    bench.setup.install(bench.installed(), None, None, None, plan=True)
    assert any("makes release 1.0.0" in line for line in bench.told)


def test_without_an_installation_there_is_nothing_to_upgrade(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nothing is installed"):
        Bench(tmp_path).setup.upgrade(tmp_path / "bundle.tar", downgrade=False, plan=False)


def test_an_interrupted_change_comes_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path).with_release()
    journal.note(bench.layout, Change("1.0.0", "2.0.0", "switched", restore=False))
    with pytest.raises(Refused, match="recover"):
        bench.setup.rollback(restore_state=False, plan=False)
    bench.setup.recover(at_boot=False)
    assert bench.history()[-1] == {"time": "2026-01-01T00:00:00+00:00", "did": "recover", "version": "1.0.0"}
    bench.setup.recover(at_boot=False)
    assert bench.told[-1] == "nothing was interrupted"


def test_back_and_forth_between_two_releases(tmp_path: Path) -> None:
    bench = Bench(tmp_path).with_earlier()
    (bench.layout.state / "secrets").mkdir()
    for version, before in (("2.0.0", "1.0.0"), ("1.0.0", "2.0.0")):
        bench.setup.rollback(restore_state=False, plan=False)
        assert bench.services.running == version
        # No keys that may be replaced one day lie about.
        assert [path.name for path in (bench.layout.snapshots / before).iterdir()] == ["store"]
    assert [line["older"] for line in bench.history()] == [False, True]
    assert bench.value.read_text() == "one"


@pytest.mark.parametrize(("ill", "runs", "value"), [("", "2.0.0", "then"), ("2.0.0", "1.0.0", "now")])
def test_back_with_the_state_of_then(tmp_path: Path, ill: str, runs: str, value: str) -> None:
    bench = Bench(tmp_path, frozenset({ill})).with_earlier()
    with pytest.raises(Refused, match="snapshot is gone"):
        bench.setup.rollback(restore_state=True, plan=False)
    bench.value.write_text("then")
    snapshot.take(bench.layout, "2.0.0")
    bench.value.write_text("now")
    try:
        bench.setup.rollback(restore_state=True, plan=False)
    except StepFailed:
        assert bench.history()[-1]["failed"]
    assert (bench.services.running, bench.value.read_text()) == (runs, value)


def test_a_history_that_cannot_be_written_does_not_hide_what_failed(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, frozenset({"2.0.0"})).with_earlier()
    bench.layout.history.mkdir()
    with pytest.raises(StepFailed, match=r"1\.0\.0 runs again"):
        bench.setup.rollback(restore_state=False, plan=False)


@pytest.mark.parametrize("purge", [True, False])
def test_what_goes_and_what_stays(tmp_path: Path, purge: bool) -> None:
    bench = Bench(tmp_path).with_release()
    bench.setup.uninstall(purge=purge, yes=True, plan=False)
    assert bench.value.exists() != purge
    assert current_release(bench.layout) is None
    left = {Path(name) for name in bench.files()}
    assert left == (set() if purge else {bench.value})
    assert not any(path.is_symlink() for path in bench.layout.commands)


def test_a_purge_leaves_no_key_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path).with_release()
    bench.layout.sealed_key.parent.mkdir(parents=True)
    bench.layout.sealed_key.touch()
    elsewhere = bench.layout.state.rename(tmp_path / "large-disk")
    bench.layout.state.symlink_to(elsewhere)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda path, **_: None)
        with pytest.raises(StepFailed, match=f"not removed: {bench.layout.state}"):
            bench.setup.uninstall(purge=True, yes=True, plan=False)
    bench.setup.uninstall(purge=True, yes=True, plan=False)
    assert not bench.files()
    assert not elsewhere.exists()


def product(bench: Bench, status: int) -> Path:
    """A product that notes how it is called; where."""
    calls, python = bench.layout.root / "calls", bench.layout.current / "venv/bin/python"
    python.unlink()
    python.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexit {status}\n')
    python.chmod(0o755)
    return calls


def with_configuration(bench: Bench, *, waits: bool) -> Bench:
    bench.layout.settings.mkdir(parents=True)
    for name in ("models.yaml", *("first-run.json",) * waits):
        (bench.layout.settings / name).touch()
    return bench


@pytest.mark.parametrize("waits", [True, False])
def test_what_waits_for_the_service_is_made_once_it_is_ready(tmp_path: Path, waits: bool) -> None:
    bench = with_configuration(Bench(tmp_path).with_release(), waits=waits)
    calls = product(bench, 0)
    archive = bench.installed()
    bench.setup.install(archive, None, None, None, plan=True)
    assert any("first client" in line for line in bench.told) == waits
    bench.setup.install(archive, None, None, None, plan=False)
    assert calls.exists() == waits
    assert not waits or calls.read_text() == "-I -m appliance first-run --finish\n"


def test_where_it_cannot_be_made_the_command_is_said(tmp_path: Path) -> None:
    bench = with_configuration(Bench(tmp_path).with_release(), waits=True)
    product(bench, 1)
    with pytest.raises(StepFailed, match=r"it serves.*appliance first-run --finish"):
        bench.setup.install(bench.installed(), None, None, None, plan=False)
