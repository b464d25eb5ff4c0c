"""A control group of a system's own: nspawn puts what it boots below that of who calls it, two systems into one.

They would end each other's services then, and take away each other's groups.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_ENTER: Final = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"'


@contextlib.contextmanager
def own_group(command: Sequence[str]) -> Iterator[Sequence[str]]:
    """`command` as one that is run in a new group, which is taken away at the end. What ran in it has ended by then."""
    # Of the same name in all hierarchies, as nspawn itself has it.
    name = f"appliance-test-{uuid.uuid4().hex}"
    groups = [folder / name for folder in _folders()]
    for group in groups:
        group.mkdir()
    try:
        yield ("sh", "-c", _ENTER, "sh", *map(str, groups), "--", *command)
    finally:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                # It stays where something still runs in it, and disturbs nobody.
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


def _folders() -> Iterator[Path]:
    """This process's groups in the hierarchies that systemd keeps: the unified one, and its own beside older ones."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.lstrip("/")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        place, (kind, _, options) = Path(mount.split()[4]), source.split(" ", 2)
        if kind == "cgroup2" and "" in own:
            yield place / own[""]
        elif kind == "cgroup" and "name=systemd" in options.split(",") and "name=systemd" in own:
            yield place / own["name=systemd"]
