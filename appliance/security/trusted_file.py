"""Files of public keys and certificates that decide who gets in: readable to all, writable to nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_trusted(path: Path, bytes_max: int) -> bytes:
    """The content of a regular file that only root or this process's user can change. Raises ValueError: the fault."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            _check_owner(os.fstat(file.fileno()))
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > bytes_max:
        raise ValueError(f"is larger than {bytes_max} bytes")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Without waiting for a writer, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _check_owner(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError("belongs to another user, who could let anybody in; make it root's or the service's own")
    if status.st_mode & 0o022:
        raise ValueError(f"can be changed by other users (mode {stat.S_IMODE(status.st_mode):04o}); `chmod go-w` it")
