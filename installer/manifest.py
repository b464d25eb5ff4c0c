"""MANIFEST.json: what a release is, what it needs of a host, and every file of its bundle. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from installer.errors import Refused

NAME: Final = "MANIFEST.json"
SIGNATURE: Final = "MANIFEST.sig"
PRODUCT: Final = "llm-appliance"
FORMAT: Final = 1
BYTES_MAX: Final = 4 * 2**20
FILES_MAX: Final = 10_000
FILE_BYTES_MAX: Final = 4 * 2**30
PATH_CHARS_MAX: Final = 200
_PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*(/[A-Za-z0-9_][A-Za-z0-9_.+@-]*)*")
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+([a-z0-9.+-]{0,32})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MODES: Final = {"0644": 0o644, "0755": 0o755}


@dataclass(frozen=True, slots=True)
class BundledFile:
    """path: below the bundle's top. size: bytes. mode: of the file once it is unpacked."""

    path: str
    size: int
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """sequence: rises with every release; a lower one is older. upgrade_from: the lowest sequence whose state this
    release takes over. state_format: releases with the same one read each other's state. pythons: as "3.11".
    glibc: the lowest version, as "2.34". libraries: shared libraries that the host has. driver_min: of NVIDIA's driver.
    disk_bytes: what an installation takes.
    """

    version: str
    sequence: int
    upgrade_from: int
    state_format: int
    commit: str
    machine: str
    backend: Literal["cpu", "cuda13"]
    pythons: tuple[str, ...]
    glibc: str
    libraries: tuple[str, ...]
    driver_min: str | None
    disk_bytes: int
    files: tuple[BundledFile, ...]


def parse(raw: bytes) -> Manifest:
    """Raises Refused where it is no manifest of ours, or one of a later format."""
    try:
        # What decodes has no duplicate names to choose between.
        found = json.loads(raw, object_pairs_hook=_object)
        if found["product"] != PRODUCT:
            raise Refused(f"this is a bundle of {found['product']!r}, not of {PRODUCT}")
        if found["format"] != FORMAT:
            raise Refused(
                f"the bundle has format {found['format']}; this installer reads {FORMAT}: use the bundle's own"
            )
        return _manifest(found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{NAME} is not readable ({type(error).__name__}: {error}); copy the bundle again") from None


def _manifest(found: dict[str, Any]) -> Manifest:
    files = tuple(_file(one) for one in found["files"])
    paths = {one.path for one in files}
    if not 0 < len(files) <= FILES_MAX or len(paths) != len(files):
        raise ValueError("a file is listed twice, or there are too many")
    if any(str(parent) in paths for path in paths for parent in PurePosixPath(path).parents):
        raise ValueError("a file is listed as a folder too")
    if found["backend"] not in ("cpu", "cuda13"):
        raise ValueError(f"backend {found['backend']!r} is not known")
    return Manifest(
        version=_matching(_VERSION, found["version"]),
        sequence=_count(found["sequence"]),
        upgrade_from=_count(found["upgrade_from"]),
        state_format=_count(found["state_format"]),
        commit=_text(found["commit"]),
        machine=_text(found["machine"]),
        backend=found["backend"],
        pythons=tuple(_text(one) for one in found["pythons"]),
        glibc=_text(found["glibc"]),
        libraries=tuple(_text(one) for one in found["libraries"]),
        driver_min=None if found["driver_min"] is None else _text(found["driver_min"]),
        disk_bytes=_count(found["disk_bytes"]),
        files=files,
    )


def _file(found: dict[str, Any]) -> BundledFile:
    path = _matching(_PATH, found["path"])
    if len(path) > PATH_CHARS_MAX or path in (NAME, SIGNATURE):
        raise ValueError(f"{path}: not a path of a bundle")
    size = _count(found["size"])
    if size > FILE_BYTES_MAX:
        raise ValueError(f"{path}: {size} bytes are too many")
    return BundledFile(path, size, _matching(_SHA256, found["sha256"]), _MODES[found["mode"]])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _matching(pattern: re.Pattern[str], found: object) -> str:
    if not isinstance(found, str) or pattern.fullmatch(found) is None:
        raise ValueError(f"{found!r} is not of the form {pattern.pattern}")
    return found


def _text(found: object) -> str:
    if not isinstance(found, str) or not 0 < len(found) <= PATH_CHARS_MAX:
        raise ValueError(f"{found!r} is no short text")
    return found


def _count(found: object) -> int:
    if type(found) is not int or found < 0:
        raise ValueError(f"{found!r} is no count")
    return found
