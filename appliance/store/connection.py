"""Connections to a SQLite file: opened, proven and brought to the present schema. Blocking.

The file is ours alone (0600, no link), in WAL mode, and what it holds has passed SQLite's quick check. `user_version`
counts the migrations that it has seen.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from appliance.errors import StateError

BUSY_SECONDS: Final = 5.0
# What a write-ahead log is cut to once its content is in the file.
_WAL_BYTES_MAX: Final = 8 * 2**20
_READER_CACHE_KIB: Final = 16_384
_WRITER_CACHE_KIB: Final = 8_192

Connection = sqlite3.Connection
# One per release that changed the schema: statements that follow on those before them.
Migrations = Sequence[Sequence[str]]


class Damaged(Exception):
    """What is in the file cannot be used; the message goes on from its name."""


def open_writer(path: Path, migrations: Migrations, *, check: bool) -> Connection:
    """The connection that writes, in autocommit; the file is made where there is none.

    check: proves the content first, which reads all of it. Raises Damaged, sqlite3.Error or OSError.
    """
    _make_private(path)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        # Counts only before the first table is made.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise OSError(errno.ENOTSUP, f"its file system cannot hold a write-ahead log (journal mode {mode})")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_MAX}")
        _distrust(connection)
        if check:
            _quick_check(connection)
        _migrate(connection, migrations)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise Damaged(f"is damaged: {error}") from error
        raise
    return connection


@contextlib.contextmanager
def open_reader(path: Path, migrations: Migrations) -> Iterator[Connection]:
    """A connection that cannot write; where there is no file, one to an empty database.

    It sees the file as it is at its first question, for as long as a transaction lasts. Raises StateError.
    """
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise StateError(f"{path} is not a regular file; move it away")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    except FileNotFoundError:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _migrate(connection, migrations)
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"{path} cannot be opened: {error}") from error
    with contextlib.closing(connection):
        try:
            _distrust(connection)
            connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
            version = figure(connection, "user_version")
        except sqlite3.Error as error:
            raise StateError(f"{path} cannot be read: {error}") from error
        if version != len(migrations):
            raise StateError(f"{path} was written by another release; start the appliance once, which mends that")
        yield connection


def copy_whole(source: Path, target: Path) -> None:
    """Makes the new file `target` of `source` as it is at this moment, whoever writes it. Raises StateError."""
    try:
        _make_private(target)
        with (
            contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reader,
            contextlib.closing(sqlite3.connect(target)) as writer,
        ):
            # In one step: after a pause it would begin again where somebody has written meanwhile.
            reader.backup(writer)
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"{source} cannot be copied: {error}") from error


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """What the block writes counts as a whole, or not at all where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have ended it already.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def figure(connection: Connection, pragma: str) -> int:
    """A number that SQLite knows of a file, such as `page_count`."""
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def used_bytes(connection: Connection) -> int:
    """Of a file, what is in use; pages that became free are used again before it grows."""
    pages = figure(connection, "page_count") - figure(connection, "freelist_count")
    return pages * figure(connection, "page_size")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file's content is at fault, not the disk or the moment."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk takes no more; a file-size limit looks like a disk that fails."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _quick_check(connection: Connection) -> None:
    """Raises Damaged."""
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        found = str(error)
    if found != "ok":
        raise Damaged(f"is damaged: {found}")


def _make_private(path: Path) -> None:
    """SQLite gives the files beside it the same mode."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def _distrust(connection: Connection) -> None:
    """A damaged or forged file can do no more than fail."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")


def _migrate(connection: Connection, migrations: Migrations) -> None:
    version = figure(connection, "user_version")
    if version > len(migrations):
        raise Damaged(f"is of a newer release (schema {version}, this one knows {len(migrations)})")
    for number, statements in enumerate(migrations[version:], start=version + 1):
        with transaction(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
