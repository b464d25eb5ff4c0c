"""installer.release_folder with a pip that notes how it is called; tests/system makes real releases."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest

from installer.bundle import Bundle, open_bundle
from installer.errors import Refused, StepFailed
from installer.layout import Layout
from installer.release_folder import current_release, make_release, previous_release, release_at, remove_releases
from release.signing import public_pem
from tests.unit.installer.made import FILES, KEY, bundle, release

PYTHON: Final = "3.11"
# Notes how it was called beside the release, and installs a product that can be imported.
PIP: Final = """
import json, os, pathlib, sys
release = pathlib.Path(sys.executable).parents[2]
with open(release.parent / "calls", "a") as calls:
    print(json.dumps([sys.argv[1:], dict(os.environ), sys.flags.isolated, os.getcwd()]), file=calls)
if "install" in sys.argv:
    (packages,) = (release / "venv/lib").glob("python3*/site-packages")
    for name in PRODUCT:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("")
sys.exit(STATUS)
"""
PRODUCT: Final = (
    *("appliance/__init__.py", "appliance/__main__.py", "appliance/daemon.py", "appliance/worker/__init__.py"),
    *("appliance/worker/serve.py", "appliance/engine/__init__.py", "appliance/engine/runner/__init__.py"),
    "appliance/engine/runner/loading.py",
)


def with_pip(tmp_path: Path, *, status: int = 0, product: tuple[str, ...] = PRODUCT) -> Bundle:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("pip/__main__.py", PIP.replace("PRODUCT", repr(product)).replace("STATUS", str(status)))
    files = {**FILES, "wheels/pip-1-py3-none-any.whl": packed.getvalue(), f"requirements/{PYTHON}.txt": b""}
    return open_bundle(bundle(tmp_path / "stick", files), {"key": public_pem(KEY)})


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


needs_python = pytest.mark.skipif(not Path(f"/usr/bin/python{PYTHON}").exists(), reason="a host has its own Python")


@needs_python
def test_nothing_but_the_bundle_is_installed(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of who installs says to Python and pip."""
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "PYTHONPATH", "PYTHONSTARTUP", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    made = make_release(layout, with_pip(tmp_path), PYTHON)
    assert current_release(layout) is None
    assert release_at(made.folder) == made
    assert not (made.folder / "wheels").exists()
    calls = [json.loads(line) for line in (layout.releases / "calls").read_text().splitlines()]
    (install, environment, isolated, folder), (check, *_) = calls
    for wanted in ("--isolated", "--no-index", "--require-hashes", "--no-deps"):
        assert wanted in install
    assert install[install.index("--only-binary") + 1] == ":all:"
    assert install[install.index("--find-links") + 1] == str(made.folder / "wheels")
    assert install[install.index("--requirement") + 1] == str(made.folder / f"requirements/{PYTHON}.txt")
    # LC_CTYPE is Python's own.
    assert environment.keys() - {"LC_CTYPE"} == {"PATH", "LANG", "HOME", "PIP_CONFIG_FILE"}
    assert (environment["PIP_CONFIG_FILE"], isolated, folder) == ("/dev/null", 1, "/")
    assert check[-1] == "check"


@needs_python
@pytest.mark.parametrize(
    ("pip", "says"),
    [({"status": 1}, "pip failed"), ({"product": PRODUCT[:-1]}, "a self-test of the new release failed")],
)
def test_one_that_fails_does_not_count_and_the_next_try_makes_it_anew(
    layout: Layout, tmp_path: Path, pip: dict[str, Any], says: str
) -> None:
    with pytest.raises(StepFailed, match=f"{says}, and nothing that runs was touched"):
        make_release(layout, with_pip(tmp_path, **pip), PYTHON)
    assert release_at(layout.releases / "1.0.0") is None
    assert release_at(make_release(layout, with_pip(tmp_path), PYTHON).folder) is not None
