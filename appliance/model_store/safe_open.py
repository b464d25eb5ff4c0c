"""Opening files that somebody else put there: no link is followed, and nothing but a regular file is opened."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import ChangeRefused
from appliance.safe_text import safe_text


@contextlib.contextmanager
def open_place(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor that only says what is there (O_PATH), and its status. No part of the path may be a link.

    Raises ChangeRefused.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise ChangeRefused("invalid", f"{safe_text(str(path))}: say the whole path, without '..'")
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.parts[1:]:
            fd = _step(fd, name, path)
        status = os.fstat(fd)
        if stat.S_ISLNK(status.st_mode):
            raise ChangeRefused("invalid", f"{safe_text(str(path))} is a symbolic link; name what it points to")
        yield fd, status
    finally:
        os.close(fd)


def _step(folder: int, name: str, path: Path) -> int:
    """One step down; `folder` is closed where it succeeds."""
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except NotADirectoryError:
        raise ChangeRefused(
            "invalid",
            f"{safe_text(str(path))}: a folder on the way is a symbolic link, or no folder; name the real path",
        ) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    os.close(folder)
    return fd


def open_regular(folder: int, name: str, path: Path) -> int:
    """A descriptor to read a file of a folder. path: of the file, for messages. Raises ChangeRefused."""
    try:
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    try:
        return reopen(place, os.fstat(place), path)
    finally:
        os.close(place)


def reopen(place: int, status: os.stat_result, path: Path) -> int:
    """The same file for reading, once it is known to be a regular one. Raises ChangeRefused."""
    shown = safe_text(str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise ChangeRefused("invalid", f"{shown} is {kind}; name the file itself")
    if status.st_nlink != 1:
        raise ChangeRefused(
            "invalid", f"{shown} has {status.st_nlink} names (hard links), so others may change it; copy it first"
        )
    try:
        # Not by its name, which may lead elsewhere by now.
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError | ValueError) -> ChangeRefused:
    """What to do about a path that this process cannot read."""
    shown, user = safe_text(str(path)), _own_name()
    if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return ChangeRefused("invalid", f"{shown} can be no path")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ChangeRefused(
            "invalid",
            f"{shown}: the appliance runs as {user} and may not read this; give that user read access "
            f"(`setfacl -m u:{user}:rX` on the file and the folders above), or copy it to where it may read",
        )
    if error.errno == errno.ENOENT:
        return ChangeRefused(
            "not_found",
            f"{shown}: the appliance, which runs as {user}, sees no such file; a hardened service does not see /home "
            "and /tmp",
        )
    return ChangeRefused("invalid", f"{shown} cannot be read: {error.strerror}")


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
