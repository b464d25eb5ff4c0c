"""The files that say how we show ourselves to another server, and how we know it: read anew when they have changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from appliance.errors import StateError
from appliance.security.tls import outgoing_context
from appliance.security.trusted_file import read_trusted
from appliance.state_dir import read_private
from appliance.upstream_spec import ReplicaAccess, UpstreamReplica

KEY_BYTES_MAX: Final = 8192
PEM_BYTES_MAX: Final = 2**20


class ReplicaFiles:
    """Those of one replica. Calls must not overlap; they block for as long as reading a few small files takes."""

    def __init__(self, replica: UpstreamReplica) -> None:
        self._replica = replica
        self._seen: object = None
        self._access = ReplicaAccess()

    def __call__(self) -> ReplicaAccess:
        """What a request carries now; the same object for as long as no file has changed. Raises StateError."""
        seen = self._signature()
        if seen != self._seen:
            self._access = read_access(self._replica)
            self._seen = seen
        return self._access

    def _signature(self) -> object:
        one = self._replica
        files = (one.key_file, one.ca, one.certificate, one.private_key)
        return tuple(_state_of(path) for path in files if path is not None)


def read_access(replica: UpstreamReplica) -> ReplicaAccess:
    """What a request to `replica` carries. Raises StateError, which names the file."""
    authorization = None if replica.key_file is None else f"Bearer {_key(Path(replica.key_file))}"
    if not replica.base_url.startswith("https:"):
        return ReplicaAccess(authorization)
    ca = None if replica.ca is None else _trusted(replica.ca)
    pair = None
    if replica.certificate is not None and replica.private_key is not None:
        private = read_private(_there(replica.private_key), PEM_BYTES_MAX)
        pair = _trusted(replica.certificate) + b"\n" + private
    try:
        return ReplicaAccess(authorization, outgoing_context(ca, pair))
    except ValueError as error:
        files = ", ".join(filter(None, (replica.ca, replica.certificate, replica.private_key)))
        raise StateError(f"{files or replica.base_url}: {error}") from error


def _key(path: Path) -> str:
    text = read_private(_there(path), KEY_BYTES_MAX).strip()
    if not text or not text.isascii() or not text.decode("ascii").isprintable():
        raise StateError(f"{path} holds no API key: one line of printable characters")
    return text.decode("ascii")


def _trusted(path: str) -> bytes:
    try:
        return read_trusted(Path(path), PEM_BYTES_MAX)
    except ValueError as error:
        raise StateError(f"{path} {error}") from error


def _there(path: str | Path) -> Path:
    """`read_private` takes what is missing for a damaged state directory."""
    if not os.path.lexists(path):
        raise StateError(f"{path} is missing; put it there, or correct the file that names it")
    return Path(path)


def _state_of(path: str) -> tuple[int, ...]:
    """Differs whenever the file may have changed."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return (error.errno or -1,)
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
