"""The source archive of llama-cpp-python as the lock pins it, unpacked."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from release.lock import Pin


def engine_source(pin: Pin, folder: Path) -> Path:
    """Downloads the archive where it is not in `folder`, and unpacks it anew. Raises CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{pin.name.replace('-', '_')}-{pin.version}"
    wanted = folder / "wanted.txt"
    hashes = " ".join(f"--hash=sha256:{value}" for value in sorted(pin.sha256))
    wanted.write_text(f"{pin.name}=={pin.version} {hashes}\n")
    # An archive that is there is checked against the hash, and not fetched again.
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "--dest", str(folder)),
            *("--requirement", str(wanted)),
        ],
        check=True,
    )
    unpacked = folder / name
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(folder / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return unpacked
