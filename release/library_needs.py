"""What compiled wheels need of a host, read from their libraries with binutils' objdump."""

from __future__ import annotations

import re
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NEEDED: Final = re.compile(r"^\s+NEEDED\s+(\S+)", re.MULTILINE)
_GLIBC: Final = re.compile(r"\bGLIBC_(\d+)\.(\d+)\b")
# The C library's own.
_GLIBC_LIBRARIES: Final = re.compile(r"(lib(c|m|dl|rt|pthread|util)\.so\.\d|ld-linux-.*)")


@dataclass(frozen=True, slots=True)
class LibraryNeeds:
    """glibc: the lowest version, as "2.34". libraries: what neither the wheels nor the C library have."""

    glibc: str
    libraries: tuple[str, ...]


def library_needs(wheels: Iterable[Path]) -> LibraryNeeds:
    """Raises CalledProcessError where objdump does not read one of them."""
    needed, carried, versions = set[str](), set[str](), {(2, 17)}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
            for name in archive.namelist():
                if ".so" not in Path(name).name:
                    continue
                carried.add(Path(name).name)
                told = _objdump(Path(archive.extract(name, folder)))
                needed |= set(_NEEDED.findall(told))
                versions |= {(int(major), int(minor)) for major, minor in _GLIBC.findall(told)}
    foreign = {name for name in needed - carried if _GLIBC_LIBRARIES.fullmatch(name) is None}
    major, minor = max(versions)
    return LibraryNeeds(f"{major}.{minor}", tuple(sorted(foreign)))


def _objdump(library: Path) -> str:
    return subprocess.run(("objdump", "-p", str(library)), check=True, capture_output=True, text=True).stdout
