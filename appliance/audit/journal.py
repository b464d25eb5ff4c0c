"""The audit log on disk: one open segment, its chain and key, and how segments follow each other.

    recover ─▶ write … write ─▶ roll: sync · seal · next segment ─▶ write … ─▶ close
                  └─▶ break: seal what is there as broken · next segment

Belongs to one thread; every method blocks on the disk. `on_sealed` is called when a segment was closed and can be
encrypted.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance import __version__
from appliance.access_config import Audit
from appliance.audit.chain import CLOCK_STEP, EVOLUTION_MAX, MINUTE, NO_HASH, Added, EpochKey, Link, add, genesis
from appliance.audit.clock import HostClock
from appliance.audit.epoch_state import EpochState
from appliance.audit.keys import SealKey, VerificationKey
from appliance.audit.log_file import LogFile, WriteCall
from appliance.audit.record import APPLIANCE, AuditEvent, Moment, Outcome, format_time, parse_time
from appliance.audit.recovery import Identity, Left, found_keys, inspect
from appliance.audit.scan import OPENED
from appliance.audit.seal_keys import FILE_BYTES_MAX, SealKeyChain
from appliance.audit.seal_keys import FILE_NAME as SEAL_KEYS
from appliance.audit.seals import Seal, seal_hash
from appliance.audit.segments import EPOCH_KEY, VERIFICATION_KEY, Listing, SegmentFiles
from appliance.audit.signed import sign_line
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher
from appliance.state_dir import read_private, sync_folder, write_atomic

DAY: Final = 24 * 60 * MINUTE
# A log without events still moves its key on, so that nothing can be written into a quiet past.
QUIET_EPOCHS_MAX: Final = 15

# Records made at a time before the event loop gets its turn, some 0.3 ms later.
_TURN: Final = 16

_log = logging.getLogger(__name__)

Timed = tuple[AuditEvent, Moment]


class Written(Struct, frozen=True):
    """How many of the events are durable, and what kept the others, if any, from it."""

    count: int
    error: OSError | StateError | None


def internal(action: str, outcome: Outcome = "ok", reason: str | None = None, **details: str | int) -> AuditEvent:
    """An event of the log itself."""
    return AuditEvent(action=action, outcome=outcome, actor=APPLIANCE, reason=reason, details=details)


class Journal:
    """link, key: the chain after the last durable record. broken: why a segment was given up since the start."""

    def __init__(
        self,
        folder: Path,
        settings: Audit,
        cipher: Cipher,
        seal_key: SealKey,
        clock: HostClock,
        *,
        write: WriteCall = os.write,
    ) -> None:
        """Recovers, or founds, and writes `audit.started`. Raises StateError and OSError."""
        self._folder = folder
        self._bytes_max = settings.segment_bytes_max
        self._cipher = cipher
        self._seal_key = seal_key
        self._clock = clock
        self.on_sealed: Callable[[], None] = _nothing
        self._write = write
        self.broken: str | None = None
        self._file: LogFile | None = None
        self._state_due = False
        # Records of the log itself that come before the next event.
        self._owed: list[Timed] = []
        moment = clock.moment()
        anchor = None if settings.anchor is None else Path(settings.anchor)
        self._chain = _read_chain(folder, seal_key)
        left = inspect(folder, cipher, self._chain, moment, anchor)
        if left is None:
            self._found(moment)
            opening = [internal("audit.founded", verification_key=self._identity.verification_key)]
        else:
            opening = self._continue(left, moment)
        torn = Listing.of(folder).torn_unrecorded
        opening.extend(_recovered(SegmentFiles(folder, number)) for number in sorted(torn))
        # So that the log shows, too, when an older release took over.
        opening.append(internal("audit.started", segment=self._segment, version=__version__))
        self._must(self.write([(event, moment) for event in opening]))
        for number in torn:
            _file_torn(SegmentFiles(folder, number))

    @property
    def segment(self) -> int:
        """The number of the open one."""
        return self._segment

    def write(self, events: Sequence[Timed]) -> Written:
        """Appends records and makes them durable, in order. What is not written may be given again.

        Closes the segment where it is full or a UTC day has ended.
        """
        done = 0
        try:
            if self._state_due:
                self._write_state()
            while done < len(events):
                moment = events[done][1]
                if self._file is not None and (reason := self._file.intruded()) is not None:
                    self._break(f"segment {self._segment} {reason} by another process", moment)
                if self._file is None or self._file.size >= self._bytes_max or moment.utc // DAY != self._day:
                    self.roll(moment)
                count, whole = self._commit(events, done)
                done += count
                if self._state_due:
                    self._write_state()
                if not whole:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except (OSError, StateError) as error:
            return Written(done, error)
        return Written(done, None)

    def roll(self, moment: Moment) -> None:
        """Seals the segment and opens the next. Raises StateError and OSError; then it can be called again."""
        if self._file is not None:
            self._seal(broken=None, link=self.link)
        self._start(self._segment + 1, moment)

    def roll_now(self) -> None:
        """Rolls at this moment."""
        self.roll(self._clock.moment())

    def keep_time(self) -> Written:
        """Once a minute: a new day closes the segment, and a quiet quarter of an hour gets a record."""
        moment = self._clock.moment()
        quiet = moment.utc // MINUTE - self._identity.founded - self.link.epoch >= QUIET_EPOCHS_MAX
        if quiet or moment.utc // DAY != self._day or self._file is None:
            return self.write([(internal("audit.alive"), moment)])
        return Written(0, None)

    def replace_seal_key(self, new: SealKey) -> None:
        """Closes the segment with the key of now, which then signs `new`. Raises StateError and OSError.

        The caller has stored `new` before, and keeps the old one until this returns.
        """
        moment = self._clock.moment()
        if self._file is None:
            self.roll(moment)
        old = self._seal_key
        self._seal(broken=None, link=self.link)
        chain = self._chain.replaced_by(new, old, self._segment + 1)
        write_atomic(self._folder / SEAL_KEYS, chain.data)
        self._chain, self._seal_key = chain, new
        self._start(self._segment + 1, moment)
        self._must(self.write([(internal("audit.seal_key", old=old.key_id, new=new.key_id), moment)]))

    def close(self) -> None:
        """Leaves the open segment as it is; the next start continues it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _found(self, moment: Moment) -> None:
        verification = found_keys(moment, self._seal_key.key_id)
        self._identity = Identity(verification.founded, verification.id)
        write_atomic(self._folder / VERIFICATION_KEY, verification.encode())
        write_atomic(self._folder / SEAL_KEYS, self._chain.data)
        self._segment, self._previous_seal = 0, NO_HASH
        self.link, self.key = genesis(moment), EpochKey(0, bytes.fromhex(verification.key))
        self._write_state()
        self._start(1, moment)

    def _continue(self, left: Left, moment: Moment) -> list[AuditEvent]:
        """Takes up what was left. Returns what is to be recorded of it."""
        self._segment, self._previous_seal = left.segment, left.seal
        self.link, scanned = left.link, left.scanned
        if left.broken is not None:
            return self._continue_broken(left, moment)
        assert left.identity is not None and left.key is not None
        self._identity, self.key = left.identity, left.key
        if scanned is None:
            self._start(left.segment + 1, moment)
            return []
        files = self._files
        if scanned.torn:
            _keep_torn(files, scanned.torn, scanned.whole_bytes)
        if scanned.records == 0:
            files.plain.unlink()
            self._start(left.segment, moment)
            return []
        self._file = LogFile(files.plain, create=False, write=self._write)
        self._digest = _digest_of(files.plain)
        self._records, self._first_ts = scanned.records, scanned.first_ts
        self._first_seq = left.start.seq + 1
        self._day = moment.utc // DAY if scanned.first_ts is None else _day_of(scanned.first_ts)
        return []

    def _continue_broken(self, left: Left, moment: Moment) -> list[AuditEvent]:
        assert left.broken is not None
        scanned = left.scanned
        if left.identity is None or left.key is None:
            verification = self._found_again(moment)
            self._identity = Identity(verification.founded, verification.id)
            self.key = EpochKey(0, bytes.fromhex(verification.key))
        else:
            self._identity, self.key = left.identity, left.key
        self._digest, self._size = hashlib.sha256(), 0
        if scanned is not None:
            self._digest, self._size = _digest_of(self._files.plain), scanned.size
        self._records = 0 if scanned is None else scanned.records
        self._first_ts = None if scanned is None else scanned.first_ts
        self._first_seq = left.start.seq + 1
        self._give_up(left.broken)
        if self._files.seal.exists():
            # A seal is never written again: an empty segment stands for the break.
            self._segment += 1
        self._seal(broken=left.broken, link=left.link)
        self._start(self._segment + 1, moment)
        return [internal("audit.break", "failed", left.broken, segment=left.segment)]

    def _found_again(self, moment: Moment) -> VerificationKey:
        path = self._folder / VERIFICATION_KEY
        with contextlib.suppress(FileNotFoundError, StateError):
            older = VerificationKey.decode(read_private(path, 4096))
            path.rename(path.with_name(f"verification-{older.id}.key"))
        verification = found_keys(moment, self._chain.first.key_id)
        write_atomic(path, verification.encode())
        return verification

    def _give_up(self, reason: str) -> None:
        self.broken = reason
        _log.error("the audit chain is broken: %s; a new segment begins. Run `appliance audit verify`", reason)

    def _break(self, reason: str, moment: Moment) -> None:
        """While running: the segment's file is not what was written."""
        if self.broken != reason:
            self._give_up(reason)
        segment = self._segment
        if self._file is not None:
            self._seal(broken=reason, link=self.link)
        self._start(self._segment + 1, moment)
        self._owed.append((internal("audit.break", "failed", reason, segment=segment), moment))

    def _seal(self, *, broken: str | None, link: Link) -> None:
        """Closes the segment. Its seal is complete or absent."""
        if self._file is not None:
            self._size = self._file.size
        seal = Seal(
            v=1,
            segment=self._segment,
            key_id=self._seal_key.key_id,
            previous=self._previous_seal,
            sha256=self._digest.hexdigest(),
            bytes=self._size,
            records=self._records,
            first_seq=self._first_seq,
            last_seq=link.seq,
            first_ts=self._first_ts,
            last_ts=format_time(link.ts) if self._records else None,
            link=link,
            verification_key=self._identity.verification_key,
            founded=self._identity.founded,
            broken=broken,
        )
        line = sign_line(seal, self._seal_key)
        write_atomic(self._files.seal, line)
        self._previous_seal = seal_hash(line)
        self.close()
        self.link = link
        self.on_sealed()

    def _start(self, number: int, moment: Moment) -> None:
        """Opens segment `number` with its first record."""
        files = SegmentFiles(self._folder, number)
        event = internal(
            OPENED,
            segment=number,
            founded=self._identity.founded,
            verification_key=self._identity.verification_key,
            previous_seal=self._previous_seal,
        )
        step = _clock_step(self.link, moment, self._identity.founded)
        added = add(self.link, self.key, self._identity.founded, event, moment)
        file = LogFile(files.plain, create=True, write=self._write)
        try:
            if file.append(added.line) < len(added.line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            file.close()
            files.plain.unlink(missing_ok=True)
            raise
        self._file, self._segment = file, number
        self._digest = hashlib.sha256(added.line)
        self._records, self._first_seq, self._first_ts = 1, added.link.seq, format_time(moment.utc)
        self._day = moment.utc // DAY
        self.link, self.key = added.link, added.key
        if step is not None:
            self._owed.append((step, moment))
        self._state_due = True
        self._write_state()

    def _commit(self, events: Sequence[Timed], start: int) -> tuple[int, bool]:
        """Writes what fits into this segment. Returns how many events are durable, and whether the disk took all."""
        assert self._file is not None
        added, events_before = self._compose(events, start, self._bytes_max - self._file.size)
        data = b"".join(one.line for one in added)
        room = self._file.append(data)
        lines = data.count(b"\n", 0, room)
        if lines == 0:
            return 0, False
        last = added[lines - 1]
        del self._owed[:lines]
        self._state_due = self._state_due or last.key.epoch != self.key.epoch
        self.link, self.key = last.link, last.key
        self._digest.update(data[:room])
        self._records += lines
        return events_before[lines], room == len(data)

    def _compose(self, events: Sequence[Timed], start: int, room: int) -> tuple[list[Added], list[int]]:
        """Lines until the segment is full or its day ends, and how many events are in the first n of them."""
        link, key, founded = self.link, self.key, self._identity.founded
        added: list[Added] = []
        events_before = [0]
        for event, moment in self._owed:
            one = add(link, key, founded, event, moment)
            link, key = one.link, one.key
            added.append(one)
            events_before.append(0)
        for index in range(start, len(events)):
            event, moment = events[index]
            if index % _TURN == 0:
                time.sleep(0)  # lets go of the interpreter, for whose thread answers are under way
            if added and (room <= 0 or moment.utc // DAY != self._day):
                break
            if (step := _clock_step(link, moment, founded)) is not None:
                one = add(link, key, founded, step, moment)
                link, key = one.link, one.key
                added.append(one)
                events_before.append(index - start)
                room -= len(one.line)
            one = add(link, key, founded, event, moment)
            link, key = one.link, one.key
            added.append(one)
            events_before.append(index - start + 1)
            room -= len(one.line)
        return added, events_before

    def _write_state(self) -> None:
        state = EpochState(
            v=1,
            founded=self._identity.founded,
            verification_key=self._identity.verification_key,
            epoch=self.key.epoch,
            key=self.key.key.hex(),
            segment=self._segment,
            seal=self._previous_seal,
            link=self.link,
        )
        state.write(self._folder / EPOCH_KEY, self._cipher)
        self._state_due = False

    @property
    def _files(self) -> SegmentFiles:
        return SegmentFiles(self._folder, self._segment)

    @staticmethod
    def _must(written: Written) -> None:
        if written.error is not None:
            raise written.error


def _nothing() -> None:
    pass


def newest_seal_key_id(folder: Path) -> str | None:
    """Which private key `Journal` asks for; None where no log was founded. Raises StateError."""
    path = folder / SEAL_KEYS
    if not path.exists():
        return None
    return SealKeyChain.decode(read_private(path, FILE_BYTES_MAX)).newest.key_id


def _read_chain(folder: Path, seal_key: SealKey) -> SealKeyChain:
    path = folder / SEAL_KEYS
    if not path.exists():
        if Listing.of(folder).seals:
            raise StateError(f"{path} is missing, so no seal can be checked; restore it from a backup")
        return SealKeyChain.found(seal_key)
    chain = SealKeyChain.decode(read_private(path, FILE_BYTES_MAX))
    if chain.newest.key_id != seal_key.key_id:
        raise StateError(
            f"the audit log is sealed by key {chain.newest.key_id[:16]}, but key {seal_key.key_id[:16]} was given; "
            "restore the seal key that belongs to it"
        )
    return chain


def _keep_torn(files: SegmentFiles, torn: bytes, whole_bytes: int) -> None:
    """Moves the end of a line out of the way, to where the next start finds it if this one does not record it."""
    before = files.torn_unrecorded.read_bytes() if files.torn_unrecorded.exists() else b""
    if not before.endswith(torn):
        write_atomic(files.torn_unrecorded, before + torn)
    file = LogFile(files.plain, create=False)
    try:
        file.truncate(whole_bytes)
    finally:
        file.close()


def _recovered(files: SegmentFiles) -> AuditEvent:
    torn = files.torn_unrecorded.read_bytes()
    _log.warning("audit segment %d had an unfinished line of %d bytes", files.number, len(torn))
    digest = hashlib.sha256(torn).hexdigest()
    return internal("audit.recovered", "ok", "torn_line", segment=files.number, bytes=len(torn), sha256=digest)


def _file_torn(files: SegmentFiles) -> None:
    """What is recorded joins what earlier crashes left."""
    before = files.torn.read_bytes() if files.torn.exists() else b""
    write_atomic(files.torn, before + files.torn_unrecorded.read_bytes())
    files.torn_unrecorded.unlink()
    sync_folder(files.folder)


def _digest_of(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest


def _day_of(ts: str) -> int:
    return parse_time(ts) // DAY


def _clock_step(link: Link, moment: Moment, founded: int) -> AuditEvent | None:
    """The record of a wall clock that was set, or that the keys cannot follow at once."""
    if link.seq == 0:
        return None
    passed = moment.utc - link.ts
    if moment.boot == link.boot:
        step = passed - (moment.mono - link.mono)
        stepped = abs(step) > CLOCK_STEP
    else:
        step, stepped = passed, passed < -CLOCK_STEP
    behind = max(0, moment.utc // MINUTE - founded - link.epoch - EVOLUTION_MAX)
    if not stepped and not (behind and moment.boot != link.boot):
        return None
    _log.warning("the clock was set by %d s, says the audit log", step // 10**6)
    return internal("audit.clock", "failed", "clock_step", seconds=step // 10**6, epochs_behind=behind)
