"""What the host must have before anything is touched: probes that only read, and a verdict over what they found."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from installer.manifest import Manifest

COMMANDS: Final = ("openssl", "runuser", "systemctl", "systemd-sysusers", "systemd-tmpfiles")
# Debian 12 has it; older ones lack directives of our units.
SYSTEMD_MIN: Final = 252
_PACKAGES: Final = {
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    "libgomp.so.1": "libgomp1",
    "libz.so.1": "zlib1g",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "runuser": "util-linux",
    "openssl": "openssl",
    "systemctl": "systemd",
    "systemd-sysusers": "systemd",
    "systemd-tmpfiles": "systemd",
}
_DRIVER: Final = re.compile(r"Kernel Module(?: for \w+)?\s+(\d+(?:\.\d+)+)")
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Host:
    """missing: commands and libraries that were looked for and are not there. driver: NVIDIA's, None where none runs.

    systemd: its version; None where it does not run this host.
    """

    root: bool
    machine: str
    python: str
    glibc: str
    systemd: int | None
    missing: tuple[str, ...]
    driver: str | None
    disk_free_bytes: int


def look_at_host(manifest: Manifest, products: Path) -> Host:
    """products: where releases go. Reads only."""
    return Host(
        root=os.geteuid() == 0,
        machine=platform.machine(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        glibc=(os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0").rpartition(" ")[2],
        systemd=_systemd() if Path("/run/systemd/system").is_dir() else None,
        missing=(*_missing_commands(COMMANDS), *_missing_libraries(manifest.libraries)),
        driver=_driver(),
        disk_free_bytes=free_bytes(products),
    )


def lacks(host: Host, manifest: Manifest) -> Iterator[str]:
    """What keeps this release from this host, each with what to do about it. Pure."""
    if not host.root:
        yield "this must be done as root: use sudo"
    if host.machine != manifest.machine:
        yield f"the bundle is for {manifest.machine}, and this host is {host.machine}"
    if host.python not in manifest.pythons:
        yield f"Python {host.python} is not among those that the bundle serves: {', '.join(manifest.pythons)}"
    if _numbers(host.glibc) < _numbers(manifest.glibc):
        yield f"the C library is {host.glibc}, and must be {manifest.glibc} or newer: Debian 12, Ubuntu 24.04 or newer"
    if host.systemd is None:
        yield "systemd does not run this host"
    elif host.systemd < SYSTEMD_MIN:
        yield f"systemd is {host.systemd}, and must be {SYSTEMD_MIN} or newer"
    for name in host.missing:
        yield f"{name} is not installed: apt-get install {_PACKAGES.get(name, name)}"
    if host.disk_free_bytes < manifest.disk_bytes:
        free, wanted = host.disk_free_bytes / _GIB, manifest.disk_bytes / _GIB
        yield f"{free:.1f} GiB are free for releases, and an installation takes {wanted:.1f} GiB"
    if manifest.driver_min is not None:
        if host.driver is None:
            yield f"no NVIDIA driver is loaded: install version {manifest.driver_min} or newer, or take the CPU bundle"
        elif _numbers(host.driver) < _numbers(manifest.driver_min):
            yield f"the NVIDIA driver is {host.driver}, and must be {manifest.driver_min} or newer"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _missing_commands(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if shutil.which(name) is None)


def _missing_libraries(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            yield name


def _systemd() -> int | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(("systemctl", "--version"), capture_output=True, text=True, timeout=10).stdout
        if found := re.match(r"systemd (\d+)", told):
            return int(found[1])
    return None


def _driver() -> str | None:
    with contextlib.suppress(OSError):
        if found := _DRIVER.search(Path("/proc/driver/nvidia/version").read_text()):
            return found[1]
    return None


def free_bytes(folder: Path) -> int:
    """Of the file system that it is on, or will be."""
    return shutil.disk_usage(there(folder)).free


def there(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
