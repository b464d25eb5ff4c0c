"""The folder of kept responses, and who may touch what in it when.

    OWNER/resp_….sealed     one response and what it answered; OWNER is a hash of the principal's name
    .lock                   its flock is held by whoever writes, removes or seals anew

The record id that a file is sealed as is its path in the folder, so no file can stand in for another, nor another
owner's. A response's id begins with the second in which it was made, so that age needs no look inside.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

_ID: Final = re.compile(r"resp_([0-9a-f]{10})[0-9a-f]{38}")
_NAME: Final = re.compile(rf"({_ID.pattern})\.sealed")
_OWNER: Final = re.compile(r"[0-9a-f]{32}")
# What a small file takes of a disk.
BLOCK_BYTES: Final = 4096


class Kept(NamedTuple):
    """One file. made: Unix time of the response. size: what it takes of the disk, about."""

    owner: str
    id: str
    made: int
    size: int

    @property
    def name(self) -> str:
        """Below the folder, and what it is sealed as."""
        return name_of(self.owner, self.id)


def response_id(now: float, random: str) -> str:
    """random: 38 hexadecimal digits that nobody guesses."""
    made = f"resp_{int(now):010x}{random}"
    assert _ID.fullmatch(made)
    return made


def made_at(asked: str) -> int | None:
    """When the response of this id was made; None where this is no id of ours."""
    match = _ID.fullmatch(asked)
    return None if match is None else int(match[1], 16)


def owner_of(principal: str) -> str:
    """The folder of a principal."""
    return hashlib.sha256(principal.encode()).hexdigest()[:32]


def name_of(owner: str, asked: str) -> str:
    """asked: an id that `made_at` knows."""
    return f"{owner}/{asked}.sealed"


def kept_in(folder: Path) -> list[Kept]:
    """All of them, in no order; none where there is no folder. Raises OSError."""
    found = []
    for owner in _names(folder):
        if _OWNER.fullmatch(owner) is None:
            continue
        for name in _names(folder / owner):
            match = _NAME.fullmatch(name)
            if match is not None:
                with suppress(FileNotFoundError):
                    size = (folder / owner / name).lstat().st_size
                    found.append(Kept(owner, match[1], int(match[2], 16), max(size, BLOCK_BYTES)))
    return found


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else writes or removes within the block. Makes the folder. Blocking; raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
