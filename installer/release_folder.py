"""A release on this host, made where it will stay: nothing that runs is touched by it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from installer.bundle import Bundle, unpack
from installer.durable import remove, write_whole
from installer.errors import StepFailed
from installer.layout import Layout
from installer.manifest import NAME, Manifest, parse

# There once all the rest is, and on the disk.
COMPLETE: Final = ".complete"
_INTERPRETER: Final = "venv/bin/python"
SECONDS_MAX: Final = 1800.0
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
# The daemon without its configuration, and the worker with the engine's libraries.
_SELF_TESTS: Final = (
    ("-m", "appliance", "version"),
    ("-c", "import appliance.daemon, appliance.worker.serve, appliance.engine.runner.loading"),
)


@dataclass(frozen=True, slots=True)
class Release:
    """One that is complete."""

    folder: Path
    manifest: Manifest

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def runs(self) -> bool:
        """Whether the Python that it was made for is still there: a newer Debian has another one."""
        return (self.folder / _INTERPRETER).exists()


def current_release(layout: Layout) -> Release | None:
    """The one that counts. Raises Refused where its manifest is damaged."""
    return release_at(layout.current.resolve()) if layout.current.is_symlink() else None


def previous_release(layout: Layout) -> Release | None:
    """The one before it, where there was one and it is still there."""
    folder = layout.previous.resolve()
    return release_at(folder) if layout.previous.is_symlink() and folder != layout.current.resolve() else None


def release_at(folder: Path) -> Release | None:
    """None where there is none, or it was not finished."""
    if not (folder / COMPLETE).is_file():
        return None
    return Release(folder, parse((folder / NAME).read_bytes()))


def make_release(layout: Layout, bundle: Bundle, python: str) -> Release:
    """Unpacks and installs it below `releases`, unless it is there already. python: the host's, as "3.11".

    Raises Refused where the bundle changes under our hands, StepFailed where pip or a self-test fails.
    """
    folder = layout.releases / bundle.manifest.version
    if (there := release_at(folder)) is not None and there.manifest == bundle.manifest and there.runs:
        return there
    layout.releases.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove(folder)
    unpack(bundle, folder)
    interpreter = _environment(folder / "venv", python)
    _install(interpreter, folder, python)
    shutil.rmtree(folder / "wheels")
    for test in _SELF_TESTS:
        _run([str(interpreter), "-I", *test], "a self-test of the new release")
    os.sync()
    write_whole(folder / COMPLETE, b"")
    return Release(folder, bundle.manifest)


def remove_releases(layout: Layout, keep: frozenset[str]) -> None:
    """All versions but these, unfinished ones included."""
    for folder in sorted(layout.releases.iterdir()) if layout.releases.is_dir() else ():
        if folder.name not in keep:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Whatever ends it in the middle: what is left does not count as a release."""
    if folder.is_dir():
        remove(folder / COMPLETE)
        shutil.rmtree(folder)


def _environment(venv: Path, python: str) -> Path:
    """As the module venv makes it, which not every host has. Its parts are where `current` leads: that may move on."""
    (venv / f"lib/python{python}/site-packages").mkdir(mode=0o755, parents=True)
    (venv / "bin").mkdir(mode=0o755)
    for name in ("python", "python3", f"python{python}"):
        (venv / "bin" / name).symlink_to(f"/usr/bin/python{python}")
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    return venv / "bin/python"


def _install(interpreter: Path, folder: Path, python: str) -> None:
    (pip,) = (folder / "wheels").glob("pip-*.whl")
    run_pip = [str(interpreter), "-I", str(pip / "pip"), "--isolated", "--disable-pip-version-check", "--no-cache-dir"]
    # Nothing but the bundle, and of that nothing but what the release names by its hash.
    sources = ("--no-index", "--find-links", str(folder / "wheels"), "--require-hashes", "--only-binary", ":all:")
    wanted = ("--no-deps", "--no-warn-script-location", "--requirement", str(folder / "requirements" / f"{python}.txt"))
    _run([*run_pip, "install", "--quiet", *sources, *wanted], "pip")
    _run([*run_pip, "check"], "pip check")


def _run(command: list[str], what: str) -> None:
    # A site's own settings for Python and pip must not count here.
    environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    if done.returncode != 0:
        raise StepFailed(f"{what} failed, and nothing that runs was touched:\n{(done.stdout + done.stderr).strip()}")
