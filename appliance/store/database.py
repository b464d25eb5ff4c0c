"""A SQLite file that one thread writes: callers hand jobs over and never wait for the disk."""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from appliance.errors import StateError
from appliance.store.connection import (
    Connection,
    Damaged,
    Migrations,
    is_damage,
    is_full,
    open_reader,
    open_writer,
    transaction,
)

BACKLOG_MAX: Final = 10_000
BATCH_MAX: Final = 1_000
# Jobs that come within this time are committed together.
COMMIT_SECONDS: Final = 0.25
# How long a reader waits for what was handed over before, and `close` for the thread.
SETTLE_SECONDS: Final = 10.0

T = TypeVar("T")
Job = Callable[[Connection], None]
# A small piece of work that is due now and then; returns the seconds until it is due again.
Chore = Callable[[Connection], float]

_log = logging.getLogger(__name__)


class Reads(Protocol):
    """Where something can be read: a Database, or the file of one."""

    def read(self, work: Callable[[Connection], T], *, settled: bool = True) -> T:
        """What `work` finds. Blocks. Raises StateError."""
        ...


class DatabaseFile:
    """The file of a Database that may be nobody's at the moment; what is not there is empty. what: as in Database."""

    def __init__(self, path: Path, migrations: Migrations, *, what: str) -> None:
        self._path = path
        self._migrations = migrations
        self._what = what

    def read(self, work: Callable[[Connection], T], *, settled: bool = True) -> T:
        """What `work` finds, on a connection that cannot write. Blocks. Raises StateError."""
        with open_reader(self._path, self._migrations) as connection:
            try:
                return work(connection)
            except sqlite3.Error as error:
                raise StateError(f"the {self._what} {self._path} cannot be read: {error}") from error


class Database:
    """`path`, written by a thread of its own.

    what: its name in the log, such as `request log`. chore: runs in the thread, in a transaction of its own, between
    batches of jobs; it delays those that come meanwhile.

    A disk that refuses is logged once until it takes a batch again; the jobs of that time are counted and lost. A file
    that is damaged, or of a newer release, is put aside as `<name>.damaged`, in the place of an older one, and a new
    file is begun.
    """

    def __init__(self, path: Path, migrations: Migrations, *, what: str, chore: Chore | None = None) -> None:
        self._path = path
        self._file = DatabaseFile(path, migrations, what=what)
        self._migrations = migrations
        self._what = what
        self._chore = chore
        self._queue: queue.Queue[Job | threading.Event | None] = queue.Queue(BACKLOG_MAX)
        self._hurry = threading.Event()
        self._suspect = threading.Event()
        self._overflowed = 0  # the callers'
        # The thread's.
        self._connection: Connection | None = None
        self._checked = False
        self._failing = False
        self._missed = 0  # while it fails
        self._lost = 0
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name=what.replace(" ", "-"), daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Jobs whose work is in no file."""
        return self._lost + self._overflowed

    def write(self, job: Job) -> None:
        """Hands a job over. Never blocks; one that finds the backlog full is counted and lost."""
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            self._overflowed += 1

    def read(self, work: Callable[[Connection], T], *, settled: bool = True) -> T:
        """What `work` finds, on a connection that cannot write.

        settled: it sees every job that was handed over before. Blocks. Raises StateError where the file cannot be
        read, or the thread does not get on.
        """
        if settled:
            self._settle()
        try:
            return self._file.read(work)
        except StateError as error:
            if isinstance(error.__cause__, sqlite3.Error) and is_damage(error.__cause__):
                self._suspect.set()
            raise

    def close(self) -> None:
        """Writes what was handed over and ends the thread; a disk that hangs keeps it no longer than 20 s."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=SETTLE_SECONDS)
        self._hurry.set()
        self._thread.join(timeout=SETTLE_SECONDS)
        if self._overflowed:
            _log.error("%d records were lost: the disk was too slow for the %s", self._overflowed, self._what)

    def _settle(self) -> None:
        written = threading.Event()
        deadline = time.monotonic() + SETTLE_SECONDS
        with contextlib.suppress(queue.Full):
            self._queue.put(written, timeout=SETTLE_SECONDS)
            self._hurry.set()
            if written.wait(deadline - time.monotonic()):
                return
        raise StateError(f"the {self._what} is busy: it is being checked, or its disk hangs; try again in a minute")

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = self._next_batch()
            open_ = None not in batch
            jobs = [one for one in batch if one is not None and not isinstance(one, threading.Event)]
            if batch:
                self._write(jobs)
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()
            if open_ and self._chore is not None and time.monotonic() >= self._due:
                self._do(self._chore)
        if self._connection is not None:
            # The last one to close moves the write-ahead log into the file.
            self._connection.close()

    def _next_batch(self) -> list[Job | threading.Event | None]:
        """What is to be committed together; empty where the chore is due."""
        wait = None if self._chore is None else max(0.0, self._due - time.monotonic())
        try:
            batch = [self._queue.get(timeout=wait) if wait != 0.0 else self._queue.get_nowait()]
        except queue.Empty:
            return []
        if batch[0] is not None and self._queue.qsize() < BATCH_MAX:
            self._hurry.wait(COMMIT_SECONDS)
            self._hurry.clear()
        with contextlib.suppress(queue.Empty):
            while len(batch) < BATCH_MAX and batch[-1] is not None:
                batch.append(self._queue.get_nowait())
        return batch

    def _write(self, jobs: Sequence[Job]) -> None:
        for attempt in range(2):
            try:
                connection = self._opened()
                with transaction(connection):
                    for job in jobs:
                        self._run_job(job, connection)
            except (sqlite3.Error, OSError, Damaged) as error:
                if _is_damage(error) and attempt == 0 and self._put_aside(error):
                    continue
                self._failed(error, len(jobs))
            else:
                if self._failing:
                    _log.error("the %s works again; %d records were lost", self._what, self._missed)
                    self._failing, self._missed = False, 0
            return

    def _run_job(self, job: Job, connection: Connection) -> None:
        """One that is at fault itself is lost alone."""
        try:
            job(connection)
        except (sqlite3.OperationalError, Damaged):
            raise
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            if _is_damage(error):
                raise
            self._lost += 1
            _log.exception("a record cannot be kept in the %s", self._what)

    def _do(self, chore: Chore) -> None:
        self._due = time.monotonic() + SETTLE_SECONDS
        try:
            connection = self._opened()
            with transaction(connection):
                seconds = chore(connection)
        except (sqlite3.Error, OSError, Damaged) as error:
            if not (_is_damage(error) and self._put_aside(error)):
                self._failed(error, 0)
        else:
            self._due = time.monotonic() + seconds

    def _opened(self) -> Connection:
        if self._suspect.is_set():
            # A connection that has been open for long sees pages as they were.
            self._suspect.clear()
            self._close_connection()
            self._checked = False
        if self._connection is None:
            self._connection = open_writer(self._path, self._migrations, check=not self._checked)
            self._checked = True
        return self._connection

    def _failed(self, error: Exception, jobs: int) -> None:
        if not self._failing:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            _log.error("the %s %s cannot be written: %s", self._what, self._path, reason)
        self._failing = True
        self._missed += jobs
        self._lost += jobs
        # Through a full disk it stays open: readers share the file beside it that a full disk has no room to make.
        if not (isinstance(error, sqlite3.Error) and is_full(error)):
            self._close_connection()

    def _put_aside(self, error: Exception) -> bool:
        aside = self._path.with_name(f"{self._path.name}.damaged")
        self._close_connection()
        try:
            for end in ("-wal", ""):
                Path(f"{aside}{end}").unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._path}{end}").replace(f"{aside}{end}")
            Path(f"{self._path}-shm").unlink(missing_ok=True)
        except OSError as failure:
            self._failed(failure, 0)
            return False
        _log.error(
            "the %s %s %s; it was put aside as %s, and a new one is begun. What it held is not shown any more",
            self._what,
            self._path,
            error if isinstance(error, Damaged) else f"is damaged: {error}",
            aside.name,
        )
        return True

    def _close_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _is_damage(error: Exception) -> bool:
    return isinstance(error, Damaged) or (isinstance(error, sqlite3.Error) and is_damage(error))
