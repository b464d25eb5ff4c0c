"""Little bundles and releases to try the installer on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installer.layout import Layout
from installer.manifest import NAME, Manifest, parse
from installer.release_folder import COMPLETE, Release, current_release
from release.seal import seal

UNITS: Final = "usr/local/lib/systemd/system"
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FACTS: Final[Mapping[str, object]] = {
    "version": "1.0.0",
    "sequence": 1,
    "upgrade_from": 1,
    "state_format": 1,
    "commit": "0" * 40,
    "machine": "x86_64",
    "backend": "cpu",
    "pythons": ["3.11"],
    "glibc": "2.34",
    "libraries": [],
    "driver_min": None,
    "disk_bytes": 1000,
}
FILES: Final[Mapping[str, bytes]] = {"appliance-setup": b"#!/bin/sh\n", "wheels/one.whl": b"wheel"}


class Recorded:
    """Services that note what is asked of them; a version runs once it is started. ill: versions that are not well.

    writes: what a version does to the state when it is started.
    """

    def __init__(self, layout: Layout, ill: frozenset[str], writes: Callable[[str], None]) -> None:
        self._layout, self._ill, self._writes = layout, ill, writes
        self.running: str | None = None
        # Whether who connects is refused, waits or is served.
        self.sockets: Literal["none", "held", "served"] = "none"
        self.known: str | None = None

    def make_users_and_folders(self) -> None:
        pass

    def reload_units(self) -> None:
        unit = self._layout.root / UNITS / "appliance.service"
        self.known = unit.read_text() if unit.exists() else None

    def enable(self) -> None:
        pass

    def disable(self) -> None:
        pass

    def stop(self) -> None:
        self.running, self.sockets = None, "none"

    def hold(self) -> None:
        self.running, self.sockets = None, "held"

    def start(self) -> None:
        there = current_release(self._layout)
        assert there is not None
        # Units and release belong together whenever something starts.
        assert self.known == there.version
        self.running, self.sockets = there.version, "served"
        self._writes(there.version)

    def unready(self, version: str, seconds: float) -> str | None:
        assert self.running == version
        return "ill" if version in self._ill else None


def manifest(**facts: object) -> Manifest:
    files = [{"path": "README.md", "size": 1, "sha256": "0" * 64, "mode": "0644"}]
    return parse(json.dumps({"product": "llm-appliance", "format": 1, **FACTS, **facts, "files": files}).encode())


def bundle(folder: Path, files: Mapping[str, bytes] = FILES, **facts: object) -> Path:
    """A signed one; `folder` is new."""
    for name, content in files.items():
        (folder / "stage" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stage" / name).write_bytes(content)
    seal(folder / "stage", {**FACTS, **facts}, KEY, folder / "bundle.tar")
    return folder / "bundle.tar"


def release(layout: Layout, version: str, sockets: str = "8443", **facts: object) -> Release:
    """A complete one whose unit tells which it is. sockets: what is in its socket unit."""
    folder = layout.releases / version
    (folder / "systemd/system").mkdir(parents=True)
    (folder / "systemd/system/appliance.service").write_text(version)
    (folder / f"systemd/system/appliance-{version}.service").write_text(version)
    (folder / "systemd/system/appliance.socket").write_text(sockets)
    about = manifest(version=version, **facts)
    files = [{"path": "README.md", "size": 1, "sha256": "0" * 64, "mode": "0644"}]
    told = {"product": "llm-appliance", "format": 1, **FACTS, "version": version, **facts, "files": files}
    (folder / NAME).write_text(json.dumps(told))
    (folder / "venv/bin").mkdir(parents=True)
    (folder / "venv/bin/python").symlink_to(sys.executable)
    (folder / COMPLETE).touch()
    return Release(folder, about)
