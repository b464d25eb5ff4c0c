"""Source archives of packages that requirements/*.lock pin, from whatever index pip is set up for, checked against the
lock's hash."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Final

BUILD: Final = Path("build/bench")


def unpacked_source(package: str, lock: Path, folder: Path = BUILD / "src") -> Path:
    """The archive's top folder; downloads and unpacks what is not there yet.

    Raises RuntimeError where the installed package is not the one of the lock, CalledProcessError where pip fails.
    """
    name = re.escape(package)
    pin = re.search(rf"^{name}==(?P<version>\S+)(?P<hashes>(?:\s*\\\n\s*--hash=\S+)+)", lock.read_text(), re.MULTILINE)
    assert pin is not None, f"{lock} does not pin {package}"
    version = pin["version"]
    if (installed := metadata.version(package)) != version:
        raise RuntimeError(f"{package} {installed} is installed but {lock} says {version}; run `make setup`")
    unpacked = folder / f"{package.replace('-', '_')}-{version}"
    archive = folder / f"{unpacked.name}.tar.gz"
    if not archive.exists() and not unpacked.exists():
        _download(pin[0], folder)
    if not unpacked.exists():
        _unpack(archive, unpacked)
    return unpacked


def _download(pin: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wanted.txt"
    wanted.write_text(pin + "\n")
    print(f"downloading the source archive of {pin.split()[0]}", flush=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"),
            *("--no-build-isolation", "--require-hashes", "-r", str(wanted), "-d", str(folder)),
        ],
        check=True,
    )
    wanted.unlink()


def _unpack(archive: Path, unpacked: Path) -> None:
    """Unpacks beside the target first, so that an interrupted run leaves nothing that looks complete."""
    partial = unpacked.with_name(unpacked.name + ".partial")
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    (partial / unpacked.name).rename(unpacked)
    partial.rmdir()
