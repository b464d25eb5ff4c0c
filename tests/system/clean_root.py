"""A clean root of a distribution, made by debootstrap from a mirror whose signature counts, and layers on it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from tests.system.distributions import TRIXIE, Distribution

# What a server has, and what docs/INSTALL.md asks of it; util-linux, passwd and the like are in every root.
PACKAGES: Final = (
    "dbus",
    "iproute2",
    "libgomp1",
    "libstdc++6",
    "openssl",
    "procps",
    "python3",
    "python3-venv",
    "systemd",
    "systemd-sysv",
)
BUILD_SECONDS_MAX: Final = 1800
ANSWER_SECONDS_MAX: Final = 20
_TARGETS: Final = ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian")
_SCRIPTS: Final = Path("/usr/share/debootstrap/scripts")
# A script of debootstrap begins with the archive that it is for.
_TELL_MIRROR: Final = 'default_mirror() { echo "$1"; exit; }; ARCH=amd64; SUITE=$1; . "$0"'
_UBUNTU_KEYS: Final = "usr/share/keyrings/ubuntu-archive-keyring.gpg"


def missing() -> str | None:
    """Why no system can be made and booted here; None where it can."""
    if os.geteuid() != 0:
        return "only root can boot a system"
    absent = [name for name in ("debootstrap", "systemd-nspawn", "nsenter", "setpriv") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def clean_root(distribution: Distribution, keep: Path) -> Path:
    """The root of a system that nothing was done to. It stays in the folder `keep`, and is to be copied.

    Raises CalledProcessError, also where the archive's signature does not fit; ConnectionError where an archive that
    apt does not know here cannot be reached.
    """
    listed = (distribution.suite, *PACKAGES, *distribution.packages)
    key = hashlib.sha256("\n".join(listed).encode()).hexdigest()[:12]
    root = keep / f"{distribution}-{key}"
    keep.mkdir(parents=True, exist_ok=True)
    # Other tests' processes wait for the one that makes it.
    with (keep / f"{distribution}.log").open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        if not root.is_dir():
            _make(distribution, root, log)
    return root


def _make(distribution: Distribution, root: Path, log: IO[bytes]) -> None:
    partial = root.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    packages = ",".join((*PACKAGES, *distribution.packages))
    options = [f"--include={packages}", f"--components={distribution.components}", "--force-check-gpg"]
    source = [_mirror()]
    if distribution.script is not None:
        mirror = _mirror_of_script(distribution)
        _reach(f"{mirror}/dists/{distribution.suite}/InRelease")
        options.append(f"--keyring={clean_root(TRIXIE, root.parent) / _UBUNTU_KEYS}")
        source = [mirror, distribution.script]
    command = ("debootstrap", "--variant=minbase", *options, distribution.suite, str(partial), *source)
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, timeout=BUILD_SECONDS_MAX)
    partial.rename(root)


@contextlib.contextmanager
def layered(root: Path, folder: Path) -> Iterator[Path]:
    """`root` with a layer on it that takes what is changed; the layer lies in `folder` and stays there."""
    changes, work, merged = (folder / name for name in ("changes", "work", "root"))
    for each in (changes, work, merged):
        each.mkdir(parents=True)
    layers = f"lowerdir={root},upperdir={changes},workdir={work}"
    subprocess.run(("mount", "-t", "overlay", "overlay", "-o", layers, str(merged)), check=True)
    try:
        yield merged
    finally:
        subprocess.run(("umount", str(merged)), check=True)


def _mirror() -> str:
    """Whatever apt is told to use: nothing here names a server."""
    listed = subprocess.run(_TARGETS, check=True, capture_output=True, text=True).stdout.split()
    if not listed:
        raise RuntimeError("apt knows no Debian mirror; run apt-get update")
    return listed[0]


def _mirror_of_script(distribution: Distribution) -> str:
    """The archive that debootstrap takes where it is told none."""
    command = ("sh", "-c", _TELL_MIRROR, str(_SCRIPTS / str(distribution.script)), distribution.suite)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _reach(url: str) -> None:
    """Only says whether anybody answers: what comes is judged by debootstrap. It would try for an hour."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS_MAX):
            pass
    except urllib.error.URLError as error:
        raise ConnectionError(f"{url}: {error.reason}") from None
    except OSError as error:
        raise ConnectionError(f"{url}: {error}") from None
