"""The wheels that a host installs from: for each Python what the lock pins, from the index that pip is set up for."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from packaging.utils import parse_wheel_filename

from release.lock import Pin

# The C library of Debian 12, the oldest host.
_GLIBC_MAX: Final = 36
_PLATFORMS: Final = (
    *(f"manylinux_2_{minor}" for minor in range(_GLIBC_MAX, 4, -1)),
    "manylinux2014",
    "manylinux2010",
    "manylinux1",
)


def download(pins: Iterable[Pin], python: str, machine: str, to: Path) -> None:
    """Puts their wheels for this Python into `to`, beside what is there. Raises CalledProcessError."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        for pin in pins:
            hashes = " ".join(f"--hash=sha256:{value}" for value in sorted(pin.sha256))
            wanted.write(f"{pin.name}=={pin.version} {hashes}\n")
        wanted.flush()
        platforms = [f"--platform={name}_{machine}" for name in _PLATFORMS]
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                *("--require-hashes", "--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
                *(*platforms, "--dest", str(to), "--requirement", wanted.name),
            ],
            check=True,
        )


def requirements(pins: Iterable[Pin], wheels: Mapping[str, Path]) -> str:
    """What pip is to install on a host: each pin with the hash of the wheel that is carried. wheels: by name."""
    lines = []
    for pin in pins:
        wheel = wheels[pin.name]
        name, version, _, _ = parse_wheel_filename(wheel.name)
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return "".join(lines)
