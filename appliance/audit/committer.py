"""The thread that owns the journal: it gathers records for a moment, writes them at once, and goes on when it cannot.

inbox ─▶ pending ─▶ journal.write ─▶ waiters told
                      │ OSError: waiters refused, ballast released, `audit.degraded`
                      └─▶ every second: ballast reserved again, pending written, `audit.resumed`
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from msgspec import Struct

from appliance.audit.anchor import Checkpoint
from appliance.audit.chain import Link
from appliance.audit.chores import Chores
from appliance.audit.clock import HostClock
from appliance.audit.errors import AuditUnavailable
from appliance.audit.journal import Journal, Timed, Written, internal
from appliance.audit.log_file import BALLAST_BYTES, Ballast
from appliance.audit.record import AuditEvent, Moment, canonical, format_time, to_microseconds
from appliance.errors import StateError

TICK_SECONDS: Final = 60.0
PENDING_MAX: Final = 65_536
RETRY_SECONDS: Final = 1.0
BATCH_MAX: Final = 4096
# What a record has besides its event, roughly.
_FRAME_BYTES: Final = 512
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_log = logging.getLogger(__name__)

Waiter = asyncio.Future[None]


class Entry(NamedTuple):
    """An event on its way. mono: µs. waiter: who wants to know that it is durable."""

    event: AuditEvent
    time: datetime
    mono: int
    waiter: Waiter | None


class Call(NamedTuple):
    """Something else for the journal, in its turn."""

    work: Callable[[Journal], None]
    waiter: Waiter


Item = Entry | Call | None  # None only wakes the thread


class Status(Struct, frozen=True):
    """What others may know; replaced as a whole.

    failure: why nothing can be written, None while all is well. broken: why the chain was. written, commits, failures:
    records, syncs and failed attempts since the start.
    """

    link: Link
    head: Checkpoint
    failure: str | None
    broken: str | None
    written: int
    commits: int
    failures: int


class Committer:
    """Its thread is the one writer of everything here but `lost` and `closing`, which the event loop's side writes.

    status, busy_since: for readers on any thread. busy_since: of time.monotonic, None while it waits for events.
    lost: events that found no room in the inbox.
    """

    def __init__(
        self, journal: Journal, ballast: Ballast, chores: Chores, clock: HostClock, commit_seconds: float
    ) -> None:
        self.inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.urgent = threading.Event()
        self.lost = 0
        self.closing = False
        self.busy_since: float | None = None
        self._journal = journal
        self._ballast = ballast
        self._chores = chores
        self._clock = clock
        self._gather_seconds = commit_seconds * 0.8  # the rest is for the disk
        self._pending: deque[tuple[Timed, Waiter | None]] = deque()
        self._failure: str | None = None
        self._failing_since = 0.0
        self._written = self._commits = self._failures = self._reported = self._noted = 0
        self._next_tick = time.monotonic() + TICK_SECONDS
        self.status = self._status()
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._note_head()
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Waits for the end after `closing` was set. Returns whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self.closing:
            calls = self._gather()
            self.busy_since = time.monotonic()
            self._flush()
            for call in calls:
                self._do(call)
            if time.monotonic() >= self._next_tick:
                self._tick()
            self.busy_since = None
        self._stop()

    def _gather(self) -> list[Call]:
        """Waits for events, and a moment for more of them. Returns the calls, which come after all events taken."""
        if self._failure is not None:
            self.urgent.wait(RETRY_SECONDS)
            first = None
        else:
            try:
                first = self.inbox.get(timeout=max(0.0, self._next_tick - time.monotonic()))
            except queue.Empty:
                return []
            if isinstance(first, Entry) and first.waiter is None:
                self.urgent.wait(self._gather_seconds)
        self.urgent.clear()
        return self._take([first, *self._waiting()])

    def _waiting(self) -> list[Item]:
        items: list[Item] = []
        with contextlib.suppress(queue.Empty):
            while len(items) < BATCH_MAX and len(self._pending) + len(items) < PENDING_MAX:
                items.append(self.inbox.get_nowait())
        return items

    def _take(self, items: list[Item]) -> list[Call]:
        calls = []
        for item in items:
            if isinstance(item, Call):
                calls.append(item)
            elif item is not None:
                moment = Moment(to_microseconds(item.time), item.mono, self._clock.boot)
                self._pending.append(((item.event, moment), item.waiter))
        return calls

    def _flush(self) -> None:
        """Writes what is pending, or tries to."""
        began_failing = self._failure
        try:
            if began_failing is not None:
                self._ballast.reserve()
            while self._pending:
                self._write_pending(BATCH_MAX)
            if self.lost > self._reported:
                lost = self.lost
                self._write(internal("audit.lost", "failed", "queue_full", records=lost - self._reported))
                self._reported = lost
            if began_failing is not None:
                seconds = int(time.monotonic() - self._failing_since)
                self._write(internal("audit.resumed", "ok", began_failing, seconds=seconds))
        except (OSError, StateError) as error:
            self._fail(error)
            return
        if began_failing is not None:
            self._failure = None
            self.status = self._status()
            _log.warning("the audit log works again after %d s", seconds)

    def _write_pending(self, count: int) -> None:
        written = self._journal.write([timed for timed, _ in islice(self._pending, count)])
        waiters = [self._pending.popleft()[1] for _ in range(written.count)]
        try:
            self._count(written)
        finally:
            _settle(waiters, None)

    def _write(self, event: AuditEvent) -> None:
        self._count(self._journal.write([(event, self._clock.moment())]))

    def _count(self, written: Written) -> None:
        self._written += written.count
        self._commits += written.count > 0
        self.status = self._status()
        if written.error is not None:
            raise written.error

    def _fail(self, error: OSError | StateError) -> None:
        """Refuses who waits, and uses the room of the ballast to say why."""
        self._failures += 1
        first = self._failure is None
        self._failure = str(error)
        if first:
            self._failing_since = time.monotonic()
            _log.error("the audit log cannot be written: %s; trying again every second", error)
        self.status = self._status()
        kept = deque(entry for entry in self._pending if entry[1] is None)
        _settle((waiter for _, waiter in self._pending), self._failure)
        self._pending = kept
        if isinstance(error, OSError):
            full = error.errno in _FULL
        else:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL
        if full and self._ballast.release():
            self._journal.write([(internal("audit.degraded", "failed", "disk_full"), self._clock.moment())])
        self.status = self._status()

    def _do(self, call: Call) -> None:
        try:
            if self._failure is not None:
                raise AuditUnavailable(self._failure)
            call.work(self._journal)
        except (OSError, StateError) as error:
            _settle([call.waiter], str(error))
        else:
            _settle([call.waiter], None)
        self.status = self._status()

    def _tick(self) -> None:
        self._next_tick = time.monotonic() + TICK_SECONDS
        if self._failure is None:
            try:
                self._count(self._journal.keep_time())
            except (OSError, StateError) as error:
                self._fail(error)
        self._note_head()

    def _note_head(self) -> None:
        head = self.status.head
        if head.seq != self._noted:
            _log.info("audit head %d %s", head.seq, head.hash)
            self._noted = head.seq
        self._chores.look(head)

    def _stop(self) -> None:
        calls = self._take(list(self._drain()))
        _settle((call.waiter for call in calls), "the audit log is closed")
        if self._failure is None:
            self._flush()
        with contextlib.suppress(OSError, StateError):
            self._last_words()
        _settle((waiter for _, waiter in self._pending), "the audit log is closed")
        self._journal.close()
        self._note_head()
        if self._pending:
            _log.error("%d audit records were lost when the log was closed: %s", len(self._pending), self._failure)

    def _drain(self) -> Iterable[Item]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.inbox.get_nowait()

    def _last_words(self) -> None:
        """`audit.stopped`, after as many pending records as half the ballast's room holds."""
        room, count = BALLAST_BYTES // 2, 0
        for (event, _), _ in self._pending:
            room -= _FRAME_BYTES + len(canonical(event))
            if room < 0:
                break
            count += 1
        if count:
            self._write_pending(count)
        self._write(internal("audit.stopped", records_lost=len(self._pending)))

    def _status(self) -> Status:
        link = self._journal.link
        return Status(
            link=link,
            head=Checkpoint(link.seq, link.head, format_time(link.ts)),
            failure=self._failure,
            broken=self._journal.broken,
            written=self._written,
            commits=self._commits,
            failures=self._failures,
        )


def _settle(waiters: Iterable[Waiter | None], refusal: str | None) -> None:
    """Tells those who wait, on their event loop."""
    ours = [waiter for waiter in waiters if waiter is not None]
    if ours:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            ours[0].get_loop().call_soon_threadsafe(_tell, ours, refusal)


def _tell(waiters: list[Waiter], refusal: str | None) -> None:
    for waiter in waiters:
        if not waiter.done():
            if refusal is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(AuditUnavailable(f"the audit log cannot be written: {refusal}"))
