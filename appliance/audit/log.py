"""The audit log, as the rest of the appliance sees it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance.access_config import Audit
from appliance.audit.anchor import Checkpoint
from appliance.audit.chain import Link
from appliance.audit.chores import Chores
from appliance.audit.clock import HostClock
from appliance.audit.committer import Call, Committer, Entry
from appliance.audit.errors import AuditUnavailable
from appliance.audit.journal import Journal, internal
from appliance.audit.keys import SealKey
from appliance.audit.log_file import Ballast, WriteCall
from appliance.audit.record import AuditEvent
from appliance.audit.segments import BALLAST, VERIFICATION_KEY
from appliance.clock import Clock, utc_now
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher
from appliance.state_dir import read_private, sync_folder

QUEUE_MAX: Final = 65_536
DURABLE_SECONDS_MAX: Final = 10.0
# A disk that takes longer than this for one commit counts as one that does not work.
STALL_SECONDS_MAX: Final = 5.0
_CLOSE_SECONDS_MAX: Final = 20.0

_log = logging.getLogger(__name__)


class Counters(Struct, frozen=True):
    """Since the start. written: durable records. waiting: events not yet taken by the writer. lost: found no room."""

    written: int
    waiting: int
    lost: int
    commits: int
    failures: int


class AuditLog:
    """Records events, in order. Belongs to one event loop; a thread of its own writes.

    Its folder has one writer at a time: the caller holds the state directory's daemon lock.
    """

    def __init__(self, folder: Path, committer: Committer, chores: Chores, clock: HostClock) -> None:
        self._folder = folder
        self._committer = committer
        self._chores = chores
        self._now, self._mono = clock.now, clock.mono
        self._put = committer.inbox.put
        self._waiting = committer.inbox.qsize
        self._overflowing = False
        # Told of every event that is to be recorded, whatever becomes of it.
        self.noticed: Callable[[AuditEvent], None] = lambda event: None

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: Audit,
        cipher: Cipher,
        seal_key: SealKey,
        now: Clock = utc_now,
        *,
        clock: HostClock | None = None,
        write: WriteCall = os.write,
    ) -> AuditLog:
        """Recovers the log in `folder`, or founds one, and begins to write. Blocking, up to seconds.

        clock, write: for tests. Raises StateError where nothing can be recorded, or another seal key is needed
        (`journal.newest_seal_key_id` says which). A broken chain is no error: `degraded` tells of it.
        """
        clock = HostClock.of_host(now) if clock is None else clock
        anchor = None if settings.anchor is None else Path(settings.anchor)
        try:
            ballast = Ballast(folder / BALLAST, write=write)
            ballast.reserve()
            journal = Journal(folder, settings, cipher, seal_key, clock, write=write)
        except OSError as error:
            raise StateError(f"the audit log in {folder} cannot be written: {error.strerror}") from error
        chores = Chores(folder, cipher, anchor)
        journal.on_sealed = chores.wake
        committer = Committer(journal, ballast, chores, clock, settings.commit_seconds)
        committer.start()
        return cls(folder, committer, chores, clock)

    def append(self, event: AuditEvent) -> None:
        """Records an event within `commit_seconds`. Never blocks, never raises."""
        self.noticed(event)
        if self._waiting() >= QUEUE_MAX or self._committer.closing:
            self._overflowing = True
            self._committer.lost += 1
            return
        self._put(Entry(event, self._now(), self._mono(), None))

    async def append_durably(self, event: AuditEvent) -> None:
        """Returns when the record is on the disk. Raises AuditUnavailable, and then no record of it follows.

        One may follow all the same where the disk hangs for longer than DURABLE_SECONDS_MAX.
        """
        if not self.available:
            raise AuditUnavailable(self._why())
        self.noticed(event)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(Entry(event, self._now(), self._mono(), waiter))
        await self._wait(waiter)

    async def replace_seal_key(self, new: SealKey) -> None:
        """Closes the segment; the old key signs `new`, which seals from now on. Raises AuditUnavailable.

        The caller has stored `new` before, and keeps the old one until this returns: after a crash in between,
        `journal.newest_seal_key_id` says which of the two is asked for.
        """
        await self._call(lambda journal: journal.replace_seal_key(new))

    async def close_segment(self) -> None:
        """Seals the open segment now. Raises AuditUnavailable."""
        await self._call(Journal.roll_now)

    @property
    def available(self) -> bool:
        """Whether records can be written now. While not, nothing may happen that must be recorded."""
        committer = self._committer
        if self._overflowing and self._waiting() < QUEUE_MAX // 2:
            self._overflowing = False
        return not (
            self._overflowing
            or committer.closing
            or committer.status.failure is not None
            or self.busy_seconds > STALL_SECONDS_MAX
        )

    @property
    def busy_seconds(self) -> float:
        """How long its thread has been at one piece of work: a commit, or a try of one."""
        busy_since = self._committer.busy_since
        return 0.0 if busy_since is None else time.monotonic() - busy_since

    @property
    def degraded(self) -> tuple[str, ...]:
        """What an administrator must look at; empty while all is well."""
        status = self._committer.status
        reasons = [] if self.available else [self._why()]
        if status.broken is not None:
            reasons.append(f"the audit chain is broken: {status.broken}")
        if self._committer.lost:
            reasons.append(f"{self._committer.lost} audit records were lost: they came faster than the disk took them")
        if self._chores.trouble is not None:
            reasons.append(self._chores.trouble)
        return tuple(reasons)

    @property
    def head(self) -> Checkpoint:
        """The last durable record."""
        return self._committer.status.head

    @property
    def link(self) -> Link:
        """The chain after it."""
        return self._committer.status.link

    @property
    def anchor(self) -> Path | None:
        """The anchor's file since the start; a reload of appliance.yaml changes nothing about it."""
        return self._chores.anchor

    @property
    def anchor_trouble(self) -> str | None:
        """Why the head is not noted there. Its medium may have been taken away on purpose: that degrades nothing."""
        return self._chores.anchor_trouble

    @property
    def counters(self) -> Counters:
        """For metrics."""
        status = self._committer.status
        return Counters(
            written=status.written,
            waiting=self._waiting(),
            lost=self._committer.lost,
            commits=status.commits,
            failures=status.failures,
        )

    @property
    def verification_key_is_here(self) -> bool:
        """Whether the auditor has still to take the verification key away: until then its thief can forge records."""
        return (self._folder / VERIFICATION_KEY).exists()

    def take_verification_key(self) -> bytes:
        """The content of the verification key's file, which is gone then. Raises StateError where it is taken."""
        path = self._folder / VERIFICATION_KEY
        data = read_private(path, 4096)
        try:
            with path.open("r+b") as file:
                file.write(bytes(len(data)))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            sync_folder(self._folder)
        except OSError as error:
            raise StateError(f"{path} cannot be removed: {error.strerror}") from error
        self.append(internal("audit.verification_key_taken"))
        return data

    def close(self) -> None:
        """Writes what is pending and `audit.stopped`. Blocks until then; a disk that hangs is waited for 20 s."""
        if self._committer.closing:
            return
        self._committer.closing = True
        self._put(None)
        self._committer.urgent.set()
        if not self._committer.join(_CLOSE_SECONDS_MAX):
            _log.error("the audit log could not be closed within %.0f s", _CLOSE_SECONDS_MAX)
        self._chores.close()

    async def _call(self, work: Callable[[Journal], None]) -> None:
        if not self.available:
            raise AuditUnavailable(self._why())
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(Call(work, waiter))
        await self._wait(waiter)

    async def _wait(self, waiter: asyncio.Future[None]) -> None:
        self._committer.urgent.set()
        try:
            async with asyncio.timeout(DURABLE_SECONDS_MAX):
                await waiter
        except TimeoutError:
            raise AuditUnavailable(f"the disk of the audit log took longer than {DURABLE_SECONDS_MAX:.0f} s") from None

    def _why(self) -> str:
        if self._committer.closing:
            return "the audit log is closed"
        if (failure := self._committer.status.failure) is not None:
            return f"the audit log cannot be written: {failure}"
        if self._overflowing:
            return "the audit log has more records waiting than it may"
        return f"the disk of the audit log takes longer than {STALL_SECONDS_MAX:.0f} s"
