"""A clean Debian root, made by debootstrap from the mirror that this host's apt uses."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

# What a server has, and what docs/INSTALL.md asks of it; util-linux, passwd and the like are in every Debian.
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
BUILD_SECONDS_MAX: Final = 900
_TARGETS: Final = ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian")


def missing() -> str | None:
    """Why no system can be made and booted here; None where it can."""
    if os.geteuid() != 0:
        return "only root can boot a system"
    absent = [name for name in ("debootstrap", "systemd-nspawn", "nsenter", "setpriv") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def clean_root(suite: str, keep: Path) -> Path:
    """The root of a Debian that nothing was done to. It stays in the folder `keep`, and is to be copied.

    Raises CalledProcessError.
    """
    key = hashlib.sha256("\n".join((suite, *PACKAGES)).encode()).hexdigest()[:12]
    root = keep / f"{suite}-{key}"
    keep.mkdir(parents=True, exist_ok=True)
    # Other tests' processes wait for the one that makes it.
    with (keep / f"{suite}.log").open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        if not root.is_dir():
            _make(suite, root, log)
    return root


def _make(suite: str, root: Path, log: IO[bytes]) -> None:
    partial = root.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(partial), _mirror())
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
