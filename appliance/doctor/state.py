"""Verdicts on the state directory and the configuration. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from appliance.doctor.verdict import Verdict, error, fine, warning

_NAMED_MAX: Final = 3


class Entry(Struct, frozen=True, kw_only=True):
    """A file or folder of the state directory. owner: its user's id. mode: permission bits. shared: those of them that
    its group may have.
    """

    path: str
    kind: Literal["folder", "file", "link", "other"]
    owner: int
    mode: int
    shared: int = 0


def state_verdict(entries: Sequence[Entry], user: int, cut: bool) -> Verdict:
    """Whether everything is our user's, and nobody else's to read. cut: there is more than was looked at."""
    links = [one for one in entries if one.kind in ("link", "other")]
    foreign = [one for one in entries if one.owner != user]
    open_ = [one for one in entries if one.kind in ("file", "folder") and one.mode & 0o077 & ~one.shared]
    if links:
        return error("state_directory", f"no file or folder: {_named(links)}", "move it away")
    if foreign:
        paths = " ".join(shlex.quote(one.path) for one in foreign[:_NAMED_MAX])
        return error(
            "state_directory",
            f"belongs to another user than the appliance runs as: {_named(foreign)}",
            f"`chown -h {user} {paths}`, after a look at who wrote there",
        )
    if open_:
        paths = " ".join(shlex.quote(one.path) for one in open_[:_NAMED_MAX])
        return error(
            "state_directory",
            f"other users may read or change it: {_named(open_)}",
            f"`chmod go= {paths}`; where secrets were open, rotate them (`appliance secrets`, `appliance keys rotate`)",
        )
    return fine("state_directory", f"{len(entries)} files and folders{' and more' if cut else ''} are ours alone")


def configuration_verdict(what: str, trouble: str | None) -> Verdict:
    """trouble: why a file cannot be used as it is now."""
    if trouble is None:
        return fine("configuration", f"{what} can be used as it is now")
    return error("configuration", trouble, "mend it; `appliance check` says when it is right, then `appliance reload`")


class Port(Struct, frozen=True, kw_only=True):
    """A listener of appliance.yaml. state: `ours`: this daemon listens; `free`; `taken`: somebody else has it.

    reason: why it cannot be listened on.
    """

    listener: str
    host: str
    port: int
    state: Literal["ours", "free", "taken"]
    reason: str = ""


def port_verdict(port: Port) -> Verdict:
    """Of one listener."""
    where = f"{port.listener}: {port.host} port {port.port}"
    if port.state == "ours":
        return fine("listeners", f"{where} is served")
    if port.state == "free":
        return fine("listeners", f"{where} is free; no daemon runs here")
    return error(
        "listeners",
        f"{where} cannot be used: {port.reason}",
        f"`ss -ltnp 'sport = :{port.port}'` shows who has it; end that, or change listeners.{port.listener}",
    )


def trouble_verdicts(degraded: Sequence[str], notes: Sequence[str]) -> list[Verdict]:
    """What `appliance status` says of the running daemon."""
    found = [error("service", one, "see `appliance status` and docs/OPERATIONS.md") for one in degraded]
    found += [warning("service", one, "see `appliance status`") for one in notes]
    return found or [fine("service", "the daemon runs and has nothing to complain about")]


def _named(entries: Sequence[Entry]) -> str:
    more = len(entries) - _NAMED_MAX
    shown = ", ".join(f"{one.path} (mode {one.mode:04o}, user {one.owner})" for one in entries[:_NAMED_MAX])
    return f"{shown} and {more} more" if more > 0 else shown
