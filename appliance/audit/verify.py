"""Whether the audit log is whole: every seal, every record, and what is known of them elsewhere.

Works on a copy without the appliance. What is checked depends on what is given:

    nothing             the chain of seals; records of segments that are not encrypted
    cipher              records of encrypted segments; that the newest records are there up to the last minute
    k0                  every MAC, so that not even the holder of today's keys can have rewritten yesterday
    first fingerprint   that the seals are this appliance's (k0 contains it)
    anchor              that nothing was put back to an earlier state, and no newest records removed
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from appliance.audit.anchor import Checkpoint, read_checkpoints
from appliance.audit.chain import NO_HASH, EpochKey, Link, Walker, genesis
from appliance.audit.epoch_state import EpochState
from appliance.audit.keys import VerificationKey
from appliance.audit.packing import unpack
from appliance.audit.record import Moment, format_time, to_microseconds
from appliance.audit.scan import Opening, Scanned, lines_of_file, lines_of_pieces, read_opening, scan
from appliance.audit.seal_keys import FILE_NAME as SEAL_KEYS
from appliance.audit.seal_keys import SealKeyChain
from appliance.audit.seals import SEAL_BYTES_MAX, Seal, seal_hash
from appliance.audit.segments import EPOCH_KEY, Listing
from appliance.audit.signed import read_line
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher

FINDINGS_MAX: Final = 100
_TRIES: Final = 3
_BEFORE: Final = genesis(Moment(0, 0, ""))

Result = Literal["ok", "tampered", "incomplete"]


class Finding(Struct, frozen=True):
    """What is wrong and where. segment, line: count from 1; None where it is about the whole."""

    segment: int | None
    line: int | None
    reason: str

    def __str__(self) -> str:
        where = "" if self.segment is None else f"segment {self.segment}"
        where += "" if self.line is None else f", line {self.line}"
        return f"{where} {self.reason}".strip()


class Report(Struct, frozen=True, kw_only=True):
    """findings: FINDINGS_MAX at most. notes: what was not checked, or is odd and no proof of anything.

    segments: sealed ones. records: read and good. macs: checked with K0. pruned: segments removed by retention.
    unsealed: records after the last seal. torn: bytes of an unfinished last line. head: the last good record.
    """

    result: Result
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    segments: int
    records: int
    macs: int
    pruned: int
    unsealed: int
    torn: int
    head: Checkpoint | None

    @property
    def exit_code(self) -> int:
        """0 ok, 1 tampered, 2 incomplete: records that are not sealed yet, or an unfinished line."""
        return {"ok": 0, "tampered": 1, "incomplete": 2}[self.result]


def verify(
    folder: Path,
    *,
    cipher: Cipher | None = None,
    k0: VerificationKey | None = None,
    first_key_fingerprint: str | None = None,
    anchor: Path | None = None,
    since: datetime | None = None,
) -> Report:
    """Reads the log in `folder`, which may be in use. Blocking: about 10 s for a million records.

    since: records of segments that ended before it are not read; their seals are. Raises StateError where `anchor`
    cannot be read, and OSError where `folder` cannot.
    """
    checkpoints, unreadable = _read_anchor(anchor)
    for attempt in range(_TRIES):
        verification = _Verification(folder, cipher, k0, first_key_fingerprint, checkpoints, since)
        if unreadable:
            verification.notes.append(f"{unreadable} lines of the anchor cannot be read")
        try:
            return verification.report()
        except FileNotFoundError:
            # The appliance closed or encrypted a segment meanwhile.
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


class _Verification:
    def __init__(
        self,
        folder: Path,
        cipher: Cipher | None,
        k0: VerificationKey | None,
        fingerprint: str | None,
        checkpoints: list[Checkpoint],
        since: datetime | None,
    ) -> None:
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self._folder = folder
        self._cipher = cipher
        self._k0 = k0
        self._key = None if k0 is None else EpochKey(0, bytes.fromhex(k0.key))
        self._fingerprint = fingerprint or (None if k0 is None else k0.seal_key)
        self._pins = {checkpoint.seq: checkpoint.hash for checkpoint in checkpoints}
        self._last = max(checkpoints, key=lambda checkpoint: checkpoint.seq, default=None)
        self._since = None if since is None else format_time(to_microseconds(since))
        # The chain before the segment that is read next; None where its seal does not tell.
        self._link: Link | None = _BEFORE
        self._seal_hash = NO_HASH
        self._head: Checkpoint | None = None
        self._records = self._macs = self._sealed = self._unsealed = self._torn = 0
        self._missing: list[int] = []
        self._unread = self._skipped = self._backwards = self._pruned_to = 0
        self._open = False

    def report(self) -> Report:
        # In this order: each is never older than what is read after it.
        state = self._read_state()
        listing = Listing.of(self._folder)
        chain = self._read_chain(listing)
        for number in range(1, listing.newest + 1):
            if number in listing.seals:
                self._check_sealed(listing, number, chain)
            elif number == listing.newest and number in listing.plain:
                self._check_tail(listing, number)
            else:
                self._find(number, None, "has no seal: it was removed")
                self._link = None
        if listing.newest == 0:
            self._find(None, None, f"{self._folder} holds no audit log")
        pruned = self._check_missing()
        self._check_end(listing, state)
        self._note(listing)
        return Report(
            result="tampered" if self.findings else "incomplete" if self._open else "ok",
            findings=tuple(self.findings[:FINDINGS_MAX]),
            notes=tuple(self.notes),
            segments=self._sealed,
            records=self._records,
            macs=self._macs,
            pruned=pruned,
            unsealed=self._unsealed,
            torn=self._torn,
            head=self._head,
        )

    def _read_chain(self, listing: Listing) -> SealKeyChain | None:
        path = self._folder / SEAL_KEYS
        try:
            chain = SealKeyChain.decode(path.read_bytes())
        except FileNotFoundError:
            if listing.newest:
                self._find(None, None, f"{SEAL_KEYS} is missing, so no seal can be checked")
            return None
        except StateError as error:
            self._find(None, None, str(error))
            return None
        if self._fingerprint is None:
            self.notes.append("the first seal key was not compared with a fingerprint: all seals may be another's")
        elif self._fingerprint != chain.first.key_id:
            self._find(None, None, f"{SEAL_KEYS} begins with another key than the one that founded this log")
        return chain

    def _read_state(self) -> EpochState | None:
        """Knows of the newest records what they were at the last change of keys."""
        path = self._folder / EPOCH_KEY
        if self._cipher is None or not path.exists():
            return None
        try:
            state = EpochState.read(path, self._cipher)
        except StateError as error:
            self.notes.append(f"{EPOCH_KEY} cannot be read: {error}")
            return None
        if state.link.seq:
            self._pins.setdefault(state.link.seq, state.link.head)
        return state

    def _check_sealed(self, listing: Listing, number: int, chain: SealKeyChain | None) -> None:
        with listing.files(number).seal.open("rb") as file:
            line = file.read(SEAL_BYTES_MAX)
        public = None if chain is None else chain.public_for(number)
        seal = None if public is None else read_line(line, Seal, public)
        before = self._seal_hash
        self._seal_hash = seal_hash(line)
        if seal is None:
            if chain is not None:
                self._find(number, None, "has a seal that is not signed by the key for it")
            self._link = None
            return
        if seal.segment != number:
            self._find(number, None, f"has the seal of segment {seal.segment}")
            self._link = None
            return
        if seal.previous != before:
            self._find(number, None, "does not follow the seal before it: one of them was replaced")
        if seal.broken is not None:
            self._find(number, None, f"was closed by the appliance as damaged: {seal.broken}")
        elif self._link is not None and self._link.seq + 1 != seal.first_seq:
            self._find(number, None, f"begins with record {seal.first_seq} where {self._link.seq + 1} is due")
        pinned = self._pins.get(seal.link.seq)
        if pinned is not None and pinned != seal.link.head and seal.broken is None:
            self._find(number, None, "does not end with the record that was noted elsewhere under its number")
        self._check_content(listing, number, seal, before)
        self._link = seal.link
        self._pruned_to = max(self._pruned_to, seal.link.pruned_to)
        self._sealed += 1
        if seal.last_ts is not None:
            self._head = Checkpoint(seal.link.seq, seal.link.head, seal.last_ts)

    def _check_content(self, listing: Listing, number: int, seal: Seal, previous_seal: str) -> None:
        if self._since is not None and seal.last_ts is not None and seal.last_ts < self._since:
            self._skipped += 1
            if not {number} & (listing.plain | listing.packed):
                self._missing.append(number)
            return
        lines = self._lines(listing, number, seal)
        if lines is None:
            return
        opening = Opening(number, seal.founded, seal.verification_key, previous_seal)
        known = self._link is not None
        try:
            scanned, walker = self._scan(number, lines, opening, quiet=seal.broken is not None or not known)
        except StateError as error:
            self._find(number, None, f"cannot be decrypted: {error}")
            return
        if scanned.sha256 != seal.sha256 and (scanned.broken is None or not known):
            change = (
                "cut short" if scanned.size < seal.bytes else "extended" if scanned.size > seal.bytes else "changed"
            )
            self._find(number, scanned.lines, f"is not what its seal says: it was {change}")
        elif known and scanned.broken is None and seal.broken is None and walker.link != seal.link:
            self._find(number, scanned.lines, "ends elsewhere than its seal says")

    def _lines(self, listing: Listing, number: int, seal: Seal) -> Iterator[bytes] | None:
        files = listing.files(number)
        if number in listing.plain:
            return lines_of_file(files.plain)
        if number not in listing.packed:
            if seal.records or seal.broken is None:
                self._missing.append(number)
            return None
        if self._cipher is None:
            self._unread += 1
            return None
        return lines_of_pieces(unpack(files, self._cipher))

    def _check_tail(self, listing: Listing, number: int) -> None:
        self._open = True
        lines = lines_of_file(listing.files(number).plain)
        first = next(lines, b"")
        opening = read_opening(first)
        if opening is None and first.endswith(b"\n"):
            self._find(number, 1, "does not begin as a segment does")
            return
        if opening is None:
            self._torn = len(first)
            return
        if self._link is None:
            self.notes.append(f"segment {number} is open, and without the seal before it cannot be checked")
            return
        expected = Opening(number, opening.founded, opening.verification_key, self._seal_hash)
        scanned, walker = self._scan(number, itertools.chain([first], lines), expected, quiet=False)
        self._unsealed, self._torn = scanned.records, len(scanned.torn)
        self._link = walker.link
        self._pruned_to = max(self._pruned_to, walker.link.pruned_to)
        if scanned.last_ts is not None:
            self._head = Checkpoint(walker.link.seq, walker.link.head, scanned.last_ts)

    def _scan(self, number: int, lines: Iterable[bytes], expected: Opening, *, quiet: bool) -> tuple[Scanned, Walker]:
        """quiet: a finding about this segment or the one before it explains already why its chain is broken."""
        key = self._key
        if self._k0 is not None and expected.verification_key != self._k0.id:
            self._find(number, None, "was written under another verification key than the one given")
            key = None
        elif self._k0 is not None and expected.founded != self._k0.founded:
            self._find(number, None, "claims another founding time than the verification key")
        walker = Walker(self._link or _BEFORE, expected.founded, key)
        iterator = iter(lines)
        first = next(iterator, b"")
        scanned = scan(itertools.chain([first], iterator) if first else iterator, walker, self._pins)
        self._records += scanned.records
        self._macs += walker.checked
        self._backwards += walker.backwards
        if scanned.broken is None:
            if key is not None:
                self._key = walker.key
            if not quiet and read_opening(first) != expected:
                self._find(number, 1, "does not name its number, its founding and the seal before it")
        elif not quiet:
            self._find(number, scanned.broken_line, scanned.broken)
        return scanned, walker

    def _check_missing(self) -> int:
        pruned = 0
        for number in self._missing:
            if number <= self._pruned_to:
                pruned += 1
            else:
                self._find(number, None, "is missing, and no record says that retention removed it")
        return pruned

    def _check_end(self, listing: Listing, state: EpochState | None) -> None:
        end = 0 if self._head is None else max(self._head.seq, 0 if self._link is None else self._link.seq)
        if self._last is not None and self._last.seq > end:
            self._find(
                None,
                None,
                f"the anchor knows record {self._last.seq} of {self._last.ts}, but the log ends at {end}: "
                "it was put back to an earlier state, or its end was removed",
            )
        if state is not None and (state.link.seq > end or state.segment > listing.newest):
            reason = f"record {state.link.seq} was written, but the log ends at {end}: its end was removed"
            self._find(None, None, reason)

    def _note(self, listing: Listing) -> None:
        if self._unread:
            self.notes.append(f"{self._unread} segments are encrypted, so only their seals were checked")
        if self._skipped:
            self.notes.append(f"{self._skipped} segments ended before --since, so only their seals were checked")
        if self._k0 is None:
            self.notes.append("without the verification key, who held the keys of now could have rewritten the past")
        if self._backwards:
            self.notes.append(f"the clock went back {self._backwards} times")
        for number in sorted(listing.torn):
            size = listing.files(number).torn.stat().st_size
            self.notes.append(f"segment {number} once had an unfinished line ({size} bytes in {number:08}.torn)")
        if listing.newest in listing.seals:
            self.notes.append("the last segment is sealed: nothing is known of records after it")
        elif self._unsealed:
            self.notes.append(f"{self._unsealed} records in segment {listing.newest} are not sealed yet")

    def _find(self, segment: int | None, line: int | None, reason: str) -> None:
        self.findings.append(Finding(segment, line, reason))


def _read_anchor(path: Path | None) -> tuple[list[Checkpoint], int]:
    if path is None:
        return [], 0
    try:
        return read_checkpoints(path)
    except OSError as error:
        raise StateError(f"the anchor {path} cannot be read: {error.strerror}; bring its medium back") from error
