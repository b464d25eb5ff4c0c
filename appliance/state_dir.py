"""The state directory: everything the appliance must remember, and the rules for touching it.

    <state-dir>/secrets   the sealed credentials document, the data keys that seal it, the key that wraps those
                clients   one folder per client: what is handed to it
                audit     the audit log
                store     request log, quotas, what was last seen, captured prompts, kept responses
                models run

Everything belongs to the user the daemon runs as; folders are 0700 and files 0600. Files change by `replacing` alone,
but for logs that grow, so a reader or a power cut sees the old content or the new, never a mixture.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import msgspec

from appliance.errors import StateError

_log = logging.getLogger(__name__)

_PID_CHARS_MAX: Final = 32


class StateDir:
    """The layout below `path`. Creating the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.secrets = self.path / "secrets"
        self.clients = self.path / "clients"
        self.models = self.path / "models"
        self.store = self.path / "store"
        self.audit = self.path / "audit"
        self.run = self.path / "run"
        # Made by the first prompt that is captured.
        self.capture = self.store / "capture"
        # Made by the first response that is kept.
        self.responses = self.store / "responses"
        # Where a running daemon says how it is reached.
        self.api_url = self.run / "api.url"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The directory itself and every folder in it, parents first."""
        return (
            self.path,
            self.secrets,
            self.clients,
            self.models,
            self.store,
            self.audit,
            self.run,
        )

    def prepare(self) -> None:
        """Creates what is missing, then checks as `check` does."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for folder in self.folders:
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
        except OSError as error:
            raise StateError(f"{error.filename}: cannot be created: {error.strerror}") from error
        self.check()

    def check(self) -> None:
        """Refuses, with StateError, a state directory that is missing or that another user can change."""
        for folder in self.folders:
            _check_folder(folder)

    def lock(self) -> DaemonLock:
        """Makes this process the one daemon of this state; StateError names the pid of the one that already is.

        Temporary files that a crash left behind are removed, now that nobody can still be writing them.
        """
        held = DaemonLock(self.run / "daemon.lock")
        try:
            self._sweep()
        except BaseException:
            held.release()
            raise
        return held

    def _sweep(self) -> None:
        for folder in self.folders:
            for entry in folder.glob(".*.tmp"):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()


class DaemonLock:
    """Held from construction until `release` or the end of the process, however it ends."""

    def __init__(self, path: Path) -> None:
        fd = open_lock_file(path)
        if not try_lock(fd):
            pid = os.read(fd, _PID_CHARS_MAX).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StateError(
                f"{path.parent.parent} is in use by another daemon (pid {pid}); "
                "stop that one first or give this one its own --state-dir"
            )
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd: int | None = fd

    def release(self) -> None:
        """Lets the next daemon in; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> DaemonLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class FiguresFile:
    """Writes figures whose loss costs warnings or estimates, not access: now and then, and where something changed.

    Belongs to the event loop. changed: set by whoever changes a figure. A failure is logged and tried again next time.
    """

    def __init__(self, path: Path) -> None:
        self.changed = False
        self._path = path

    def save(self, figures: object) -> None:
        """Waits for the disk: for the end, when nobody is served."""
        if self.changed:
            self._write(self._encoded(figures))

    async def save_aside(self, figures: object) -> None:
        """The same in a thread; what changes meanwhile is written next time."""
        if self.changed:
            await asyncio.to_thread(self._write, self._encoded(figures))

    def _encoded(self, figures: object) -> bytes:
        self.changed = False
        return msgspec.json.encode(figures)

    def _write(self, encoded: bytes) -> None:
        try:
            write_atomic(self._path, encoded)
        except StateError as error:
            self.changed = True
            _log.warning("%s", error)


def temporary_sibling(path: Path) -> Path:
    """A name beside `path` that nobody uses and that a sweep removes if it is left behind."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data` as a whole and durably. On StateError the old file is as it was."""
    try:
        with replacing(path, mode) as file:
            file.write(data)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path`, whole and durable, at the end of the block.

    Where the block raises, the old file is as it was. Raises OSError.
    """
    temporary = temporary_sibling(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            yield file
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def append_whole(path: Path, lines: bytes) -> int:
    """Adds lines to a file that grows, all of them durably or none; its size then. Makes the file. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(fd).st_size
        try:
            if os.write(fd, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(fd)
        except OSError:
            os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)
    return before + len(lines)


def sync_folder(folder: Path) -> None:
    """Makes creations, renames and removals in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_private(path: Path, bytes_max: int, *, if_missing: str = "restore it from a backup") -> bytes:
    """Reads a file that only we may read or write. if_missing: what to do then.

    StateError when it is missing, larger than `bytes_max`, no regular file, another user's, or open to others.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise StateError(f"{path} is missing; {if_missing}") from error
    except OSError as error:
        raise StateError(f"{path}: cannot be opened: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise StateError(f"{path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise StateError(
                f"{path} belongs to {_user(status.st_uid)}, but this process runs as {_user(os.geteuid())}"
            )
        if status.st_mode & 0o077:
            raise StateError(
                f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, so other users may have read it; "
                "replace what it holds if that matters, then `chmod 600` it"
            )
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise StateError(f"{path} is larger than {bytes_max} bytes; it is damaged")
    return data


def _check_folder(folder: Path) -> None:
    try:
        status = folder.lstat()
    except FileNotFoundError as error:
        raise StateError(
            f"{folder} does not exist; check --state-dir, or start the appliance once to create it"
        ) from error
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise StateError(f"{folder} is a symbolic link; give --state-dir the folder itself")
    if not stat.S_ISDIR(status.st_mode):
        raise StateError(f"{folder} is not a folder; move it away")
    if status.st_uid != os.geteuid():
        raise StateError(
            f"{folder} belongs to {_user(status.st_uid)}, but this process runs as {_user(os.geteuid())}; "
            "run it as the owner, or give it another --state-dir"
        )
    if status.st_mode & 0o022:
        raise StateError(
            f"{folder} can be changed by other users (mode {stat.S_IMODE(status.st_mode):04o}); `chmod 700 {folder}`"
        )


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user id {uid}"


def open_lock_file(path: Path) -> int:
    """The descriptor of a file that is there to be locked. Raises StateError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{path}: cannot be opened: {error.strerror}") from error


def try_lock(fd: int) -> bool:
    """Takes the lock of a file until its descriptor is closed; False where somebody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
