"""Reads of the state directory and of ports what the verdicts need. Thin and blocking."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from appliance.config import Config
from appliance.doctor.state import Entry, Port
from appliance.state_dir import StateDir

ENTRIES_MAX: Final = 20_000


def read_state(state: StateDir) -> tuple[tuple[Entry, ...], bool]:
    """What is in the state directory, sockets and what vanishes meanwhile aside; whether there is more.

    Client bundles are for others, and imported models may be hard links: of those only the folders count.
    """
    # Where workers are another user, their group gets to the models (systemd/tmpfiles.d).
    shared = {state.path: 0o010, state.models: 0o050}
    found: list[Entry] = []
    for path, status in _walk(state.path, {state.clients, state.models}):
        if stat.S_ISSOCK(status.st_mode):
            continue
        if len(found) >= ENTRIES_MAX:
            return tuple(found), True
        found.append(
            Entry(
                path=str(path),
                kind=_kind(status.st_mode),
                owner=status.st_uid,
                mode=stat.S_IMODE(status.st_mode),
                shared=shared.get(path, 0),
            )
        )
    return tuple(found), False


def _walk(folder: Path, leave: set[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        status = folder.lstat()
    except OSError:
        return
    yield folder, status
    if not stat.S_ISDIR(status.st_mode) or folder in leave:
        return
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for path in inside:
        yield from _walk(path, leave)


def _kind(mode: int) -> Literal["folder", "file", "link", "other"]:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "other"


def read_ports(config: Config, serves: Callable[[str], int | None]) -> list[Port]:
    """serves: the port that a listener of this daemon listens on. What it does not serve is tried."""
    found = []
    for name, listener in config.listeners.items():
        if (port := serves(name)) is not None:
            found.append(Port(listener=name, host=listener.host, port=port, state="ours"))
            continue
        reason = _why_not(listener.host, listener.port)
        state: Literal["free", "taken"] = "free" if reason is None else "taken"
        found.append(Port(listener=name, host=listener.host, port=listener.port, state=state, reason=reason or ""))
    return found


def _why_not(host: str, port: int) -> str | None:
    """Why nobody can listen there, by trying it for a moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family, dualstack_ipv6=host == "::"):
            return None
    except OSError as error:
        return "another process listens on it" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
