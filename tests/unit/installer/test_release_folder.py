"""installer.release_folder: what needs neither pip nor wheels; tests/system makes real releases."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from installer.bundle import open_bundle
from installer.errors import Refused
from installer.layout import Layout
from installer.release_folder import current_release, make_release, previous_release, release_at, remove_releases
from release.signing import public_pem
from tests.unit.installer.made import FILES, KEY, bundle, release


class PowerCut(BaseException):
    """Nothing of ours may catch it."""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "root")


def test_one_that_is_there_is_not_made_again(layout: Layout, tmp_path: Path) -> None:
    opened = open_bundle(bundle(tmp_path / "stick"), {"key": public_pem(KEY)})
    there = release(layout, "1.0.0")
    (there.folder / "MANIFEST.json").write_bytes(opened.raw_manifest)
    assert make_release(layout, opened, "3.11").folder == there.folder


@pytest.mark.parametrize("how", ["make", "remove"])
def test_one_that_is_half_removed_does_not_count(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Also where it is the release before, which a rollback would start."""
    there = release(layout, "1.0.0")
    layout.previous.symlink_to("releases/1.0.0")
    assert previous_release(layout) == there
    opened = open_bundle(bundle(tmp_path / "stick"), {"key": public_pem(KEY)})

    def cut(path: Path, *_: Any, **__: Any) -> None:
        raise PowerCut

    with monkeypatch.context() as patched, pytest.raises(PowerCut):
        patched.setattr(shutil, "rmtree", cut)
        make_release(layout, opened, "3.11") if how == "make" else remove_releases(layout, frozenset())
    assert release_at(there.folder) is previous_release(layout) is None


def test_what_is_not_finished_is_none(layout: Layout) -> None:
    assert current_release(layout) is None
    there = release(layout, "1.0.0")
    (there.folder / ".complete").unlink()
    layout.current.symlink_to("releases/1.0.0")
    assert current_release(layout) is None


def test_a_bundle_that_was_exchanged_after_it_was_proven_makes_no_release(layout: Layout, tmp_path: Path) -> None:
    opened = open_bundle(bundle(tmp_path / "stick"), {"key": public_pem(KEY)})
    changed = {**FILES, "wheels/one.whl": b"other"}
    bundle(tmp_path / "other", changed).replace(opened.path)
    with pytest.raises(Refused, match="has changed since it was checked"):
        make_release(layout, opened, "3.11")
    assert release_at(layout.releases / "1.0.0") is None
