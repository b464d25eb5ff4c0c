"""What an earlier run left in the audit folder, and whether its chain is whole. Reads only.

The newest segment alone is read; the older ones have seals, and `verify` reads them.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.audit.anchor import newest_checkpoint
from appliance.audit.chain import MINUTE, NO_HASH, EpochKey, Link, Walker, genesis
from appliance.audit.epoch_state import EpochState
from appliance.audit.keys import VerificationKey
from appliance.audit.record import Moment
from appliance.audit.scan import Scanned, lines_of_file, read_opening, scan
from appliance.audit.seal_keys import SealKeyChain
from appliance.audit.seals import Seal, seal_hash
from appliance.audit.segments import EPOCH_KEY, Listing
from appliance.audit.signed import read_line
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher

# A log founded while the clock stands in 1970 counts its minutes from here: else the first right time would demand
# decades of keys at once. 2025-01-01.
FOUNDED_MIN: Final = 28_928_160
# Where the end of a log is lost, up to a minute of numbers is not known to have been given: none is given twice.
LOST_MAX: Final = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which K0 the keys come from. founded: minute since 1970."""

    founded: int
    verification_key: str


@dataclass(frozen=True, slots=True)
class Left:
    """What was found.

    segment: the newest. scanned: its records, None where it is sealed or has no file. start: the chain before it.
    link, key: the chain after it. seal: hash of the newest good seal. broken: why the chain cannot be continued.
    identity: None where the log must be founded anew, with a new K0.
    """

    segment: int
    scanned: Scanned | None
    start: Link
    link: Link
    key: EpochKey | None
    identity: Identity | None
    seal: str
    broken: str | None


@dataclass(slots=True)
class _Seals:
    """The end of the seal chain, as far as the newest two tell. base: what the newest segment continues."""

    base: Link
    hash: str
    sealed: bool
    broken: str | None
    identity: Identity | None = None


def found_keys(moment: Moment, seal_key_id: str) -> VerificationKey:
    """A new K0."""
    founded = max(moment.utc // MINUTE, FOUNDED_MIN)
    return VerificationKey(v=1, founded=founded, key=secrets.token_hex(32), seal_key=seal_key_id)


def inspect(
    folder: Path, cipher: Cipher, chain: SealKeyChain | None, moment: Moment, anchor: Path | None
) -> Left | None:
    """Looks at what is there; None where no log was founded. Raises OSError."""
    listing = Listing.of(folder)
    state, unreadable = _read_state(folder, cipher)
    if listing.newest == 0 and (state is None or state.link.seq == 0) and not (folder / EPOCH_KEY).exists():
        return None
    if listing.newest == 0 and state is not None and state.link.seq == 0:
        return None  # a crash while it was founded
    pins, ahead = _pins(state, anchor)
    seals = _read_seals(listing, chain, moment)
    return _Inspection(listing, state, unreadable, pins, ahead, seals).result()


@dataclass(slots=True)
class _Inspection:
    listing: Listing
    state: EpochState | None
    unreadable: str | None
    pins: Mapping[int, str]
    ahead: int
    seals: _Seals
    reasons: list[str] = field(default_factory=list)

    def result(self) -> Left:
        newest, state, seals = self.listing.newest, self.state, self.seals
        if seals.broken is not None:
            self.reasons.append(seals.broken)
        if state is None:
            self.reasons.append(f"the key of the audit log cannot be read: {self.unreadable}")
            identity, key = seals.identity, None
        else:
            identity, key = Identity(state.founded, state.verification_key), state.epoch_key
        scanned, walker = self._scan(identity, key)
        link = walker.link
        lost_end = state is not None and self._lost_end(state, link)
        if self.ahead > link.seq:
            self.reasons.append(
                f"the anchor knows record {self.ahead}, but the log ends at {link.seq}: it was put back or cut"
            )
        broken = "; ".join(self.reasons) or None
        if broken is None:
            assert key is not None
            return Left(newest, scanned, seals.base, link, key.at(link.epoch), identity, seals.hash, None)
        beyond = 0 if scanned is None else scanned.lines - scanned.records
        seq = max(link.seq + beyond, self.ahead, 0 if state is None else state.link.seq)
        if lost_end or self.ahead > link.seq:
            seq += LOST_MAX
        if state is None or key is None:
            # A new K0: its epochs begin at 0.
            link = _with(link, seq=seq, epoch=0)
            return Left(max(newest, 1), scanned, seals.base, link, None, None, seals.hash, broken)
        link = _with(link, seq=seq, epoch=max(link.epoch, key.epoch))
        segment = max(newest, state.segment)
        return Left(segment, scanned, seals.base, link, key.at(link.epoch), identity, seals.hash, broken)

    def _scan(self, identity: Identity | None, key: EpochKey | None) -> tuple[Scanned | None, Walker]:
        newest = self.listing.newest
        path = self.listing.files(newest).plain
        founded = 0 if identity is None else identity.founded
        if self.seals.sealed or newest not in self.listing.plain:
            if not self.seals.sealed:
                self.reasons.append(f"the open segment {newest} is missing")
            return None, Walker(self.seals.base, founded)
        if identity is None:
            first = next(iter(lines_of_file(path)), b"")
            opening = read_opening(first)
            founded = 0 if opening is None else opening.founded
        walker = Walker(self.seals.base, founded, key)
        scanned = scan(lines_of_file(path), walker, self.pins)
        if scanned.broken is not None:
            self.reasons.append(f"segment {newest}, line {scanned.broken_line} {scanned.broken}")
        return scanned, walker

    def _lost_end(self, state: EpochState, link: Link) -> bool:
        """The key on disk was written after a record was; that record must be there."""
        newest = self.listing.newest
        if state.segment > newest or state.link.seq > link.seq or state.epoch > link.epoch:
            self.reasons.append(
                f"record {state.link.seq} in segment {state.segment} was written, but the log ends at {link.seq} "
                f"in segment {newest}: its end was removed"
            )
            return True
        if state.segment == newest and not self.seals.sealed and state.seal != self.seals.hash:
            self.reasons.append(f"the seal before segment {newest} is not the one that was written")
        return False


def _with(link: Link, *, seq: int, epoch: int) -> Link:
    return Link(
        seq=seq,
        head=link.head,
        epoch=epoch,
        epoch_boot=link.epoch_boot,
        epoch_mono=link.epoch_mono,
        ts=link.ts,
        mono=link.mono,
        boot=link.boot,
        witnessed=link.witnessed,
        pruned_to=link.pruned_to,
    )


def _read_state(folder: Path, cipher: Cipher) -> tuple[EpochState | None, str | None]:
    try:
        return EpochState.read(folder / EPOCH_KEY, cipher), None
    except StateError as error:
        return None, str(error)


def _pins(state: EpochState | None, anchor: Path | None) -> tuple[dict[int, str], int]:
    """What is known of the chain besides itself, and the number of the last record that the anchor knows."""
    pins = {} if state is None or state.link.seq == 0 else {state.link.seq: state.link.head}
    if anchor is None:
        return pins, 0
    try:
        checkpoint = newest_checkpoint(anchor)
    except OSError as error:
        _log.warning("the anchor of the audit log, %s, cannot be read: %s", anchor, error.strerror)
        return pins, 0
    if checkpoint is None:
        return pins, 0
    pins.setdefault(checkpoint.seq, checkpoint.hash)
    return pins, checkpoint.seq


def _read_seals(listing: Listing, chain: SealKeyChain | None, moment: Moment) -> _Seals:
    newest = listing.newest
    sealed = newest in listing.seals
    number = newest if sealed else newest - 1
    if number <= 0:
        return _Seals(genesis(moment), NO_HASH, sealed, None)
    try:
        line = listing.files(number).seal.read_bytes()
    except FileNotFoundError:
        return _Seals(genesis(moment), NO_HASH, sealed, f"the seal of segment {number} is missing")
    public = None if chain is None else chain.public_for(number)
    seal = None if public is None else read_line(line, Seal, public)
    if seal is None or seal.segment != number:
        return _Seals(genesis(moment), seal_hash(line), sealed, f"the seal of segment {number} is forged or damaged")
    return _Seals(seal.link, seal_hash(line), sealed, None, Identity(seal.founded, seal.verification_key))
