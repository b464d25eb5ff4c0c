"""Builds llama-server from the sources in the archive: about five minutes on two cores, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.llama_source import LlamaSource
from bench.source_archive import BUILD

_OPTIONS: Final = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"),
    *("-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_APP=OFF"),
)


def build(source: LlamaSource, folder: Path = BUILD / "llama-server") -> Path:
    """The llama-server binary, compiled unless it is there. Raises RuntimeError where a tool is missing."""
    binary = folder / "bin" / "llama-server"
    if binary.exists():
        return binary
    cmake, ninja = _tool("cmake"), _tool("ninja")
    print("compiling llama-server: about 5 minutes on 2 cores, once", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
    configure = [cmake, "-S", str(source.root), "-B", str(folder), f"-DCMAKE_MAKE_PROGRAM={ninja}", *_OPTIONS]
    with log.open("wb") as output:
        for command in (configure, [ninja, "-C", str(folder), "-j", jobs, "llama-server"]):
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode:
                raise RuntimeError(f"llama-server does not build; see {log}")
    return binary


def _tool(name: str) -> str:
    """Beside this Python (ninja comes with requirements/build.lock) or on the PATH."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    if (found := beside or shutil.which(name)) is None:
        raise RuntimeError(f"{name} not found; `make setup` installs ninja, the system's package manager cmake")
    return found
