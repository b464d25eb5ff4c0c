"""What memory this process can still have: of the machine, and within the control groups it is in.

Format: cgroup v2, Documentation/admin-guide/cgroup-v2.rst of Linux. Under v1 and without control groups the machine is
the only limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import psutil

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUP: Final = Path("/proc/self/cgroup")
_DEPTH_MAX: Final = 64
_FILE_BYTES_MAX: Final = 65_536


class Room(NamedTuple):
    """In bytes."""

    total: int
    available: int


def host_room(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> Room:
    """The least of all limits. Blocks for a few file reads."""
    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    for group in _groups(cgroups, own):
        limit = _number(group / "memory.max")
        used = _number(group / "memory.current")
        if limit is None or used is None:
            continue
        # File pages that nobody has touched lately are given back before anybody is refused.
        reclaimable = _stat(group / "memory.stat", "inactive_file")
        total = min(total, limit)
        available = min(available, max(0, limit - max(0, used - reclaimable)))
    return Room(total, available)


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """The group of this process and those around it. The real root has no limit; that of a container may."""
    for line in _read(own).splitlines():
        hierarchy, _, path = line.partition("::")
        if hierarchy == "0":
            parts = [part for part in path.split("/") if part][:_DEPTH_MAX]
            if ".." in parts:
                return []
            return [cgroups.joinpath(*parts[:end]) for end in range(len(parts) + 1)]
    return []


def _number(path: Path) -> int | None:
    """None for `max` and for a file that is not there."""
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _stat(path: Path, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(_FILE_BYTES_MAX)
    except OSError:
        return ""
