"""How one record follows another: sequence, hash, and the key of its minute. Pure.

The MAC key evolves with time: K(e+1) = SHA-256("evolve" || K(e)), and whoever holds K(e) cannot go back. Epoch e counts
minutes since the log was founded. The epoch follows from the record's own times and from the record before, so a
record of yesterday that is sealed anew with today's key contradicts its own time (the class of CVE-2023-31439).

While the wall clock stands behind the epoch (it was set back), the monotonic clock moves the epoch on, so that a clock
that somebody set forward and back again does not stop the keys from changing.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from msgspec import Struct

from appliance.audit.record import AuditEvent, Moment, decode_body, encode_body, join_line, parse_time, split_line

PRUNED: Final = "audit.pruned"
MINUTE: Final = 60 * 10**6
# One record moves the epoch by a year at most, which takes the writer half a second: after a longer jump of the clock
# the epoch follows record by record.
EVOLUTION_MAX: Final = 366 * 24 * 60
# A wall clock that moves against the host's own by more than this was set.
CLOCK_STEP: Final = 5 * 10**6
# A gap between two starts of the host counts for this much when ages are compared: nobody witnessed it.
UNWITNESSED_MAX: Final = 48 * 60 * MINUTE
NO_HASH: Final = "0" * 64


class EpochKey(Struct, frozen=True):
    """The MAC key of one epoch."""

    epoch: int
    key: bytes

    def at(self, epoch: int) -> EpochKey:
        """The key of this or a later epoch; takes about 1 µs an epoch."""
        assert epoch >= self.epoch, "keys do not go back"
        if epoch == self.epoch:
            return self
        key = self.key
        for _ in range(epoch - self.epoch):
            key = hashlib.sha256(b"evolve" + key).digest()
        return EpochKey(epoch, key)

    def mac(self, body: bytes) -> bytes:
        """HMAC-SHA-256 of a record's body."""
        return hmac.digest(self.key, body, "sha256")


class Link(Struct, frozen=True, kw_only=True, gc=False):
    """Where the chain stands after a record: all that the next one depends on.

    head: SHA-256 of the record's body, hex. epoch_boot, epoch_mono: when its epoch began. ts: µs since 1970. mono: µs.
    witnessed: µs that the log has seen pass since it was founded: measured while the host was up, and UNWITNESSED_MAX
    at most for each time that it was down. pruned_to: the highest segment that retention has removed.
    """

    seq: int
    head: str
    epoch: int
    epoch_boot: str
    epoch_mono: int
    ts: int
    mono: int
    boot: str
    witnessed: int
    pruned_to: int


def genesis(moment: Moment) -> Link:
    """Before the first record."""
    return Link(
        seq=0,
        head=NO_HASH,
        epoch=0,
        epoch_boot=moment.boot,
        epoch_mono=moment.mono,
        ts=moment.utc,
        mono=moment.mono,
        boot=moment.boot,
        witnessed=0,
        pruned_to=0,
    )


def next_epoch(link: Link, moment: Moment, founded: int) -> int:
    """The epoch of a record at `moment` after `link`. founded: the log's first minute, since 1970."""
    wanted = moment.utc // MINUTE - founded
    if wanted > link.epoch:
        return min(wanted, link.epoch + EVOLUTION_MAX)
    in_epoch = moment.mono - link.epoch_mono if moment.boot == link.epoch_boot else moment.mono
    return link.epoch + 1 if in_epoch >= MINUTE else link.epoch


def follow(link: Link, moment: Moment, epoch: int, body: bytes, pruned: int = 0) -> Link:
    """The link after a record; pruned: the segment whose removal it records."""
    if moment.boot == link.boot:
        passed = max(0, moment.mono - link.mono)
    else:
        passed = min(max(0, moment.utc - link.ts), UNWITNESSED_MAX)
    same = epoch == link.epoch
    return Link(
        seq=link.seq + 1,
        head=hashlib.sha256(body).hexdigest(),
        epoch=epoch,
        epoch_boot=link.epoch_boot if same else moment.boot,
        epoch_mono=link.epoch_mono if same else moment.mono,
        ts=moment.utc,
        mono=moment.mono,
        boot=moment.boot,
        witnessed=link.witnessed + passed,
        pruned_to=max(link.pruned_to, pruned),
    )


class Added(Struct, frozen=True):
    """A new record's line, and chain and key after it."""

    line: bytes
    link: Link
    key: EpochKey


def add(link: Link, key: EpochKey, founded: int, event: AuditEvent, moment: Moment) -> Added:
    """The record of `event` as the next after `link`. key: of an epoch that is not after the record's."""
    link = link if link.seq else genesis(moment)
    epoch = next_epoch(link, moment, founded)
    key = key.at(epoch)
    body = encode_body(event, seq=link.seq + 1, moment=moment, epoch=epoch, prev=link.head)
    pruned = event.details["segment"] if event.action == PRUNED else 0
    return Added(join_line(body, key.mac(body)), follow(link, moment, epoch, body, _number(pruned)), key)


class Walker:
    """Follows a chain line by line: the one check that recovery, verification and retention share.

    link, ts: after the last good record. With `key` the MACs of records from its epoch on are checked, and `checked`
    counts them. backwards: how often the wall clock went back between two records.
    """

    def __init__(self, link: Link, founded: int, key: EpochKey | None = None) -> None:
        self.link = link
        self.key = key
        self.checked = 0
        self.backwards = 0
        self.ts = ""
        self._founded = founded

    def step(self, line: bytes) -> str | None:
        """Takes the next line. Returns what is wrong with it; then the walk is over."""
        parts = split_line(line)
        if parts is None:
            return "is no record"
        body, mac = parts
        try:
            record = decode_body(body)
            moment = Moment(parse_time(record.ts), record.mono, record.boot)
        except ValueError:
            return "is no record"
        # The chain's first record has nothing before it but its own time.
        link = self.link if self.link.seq else genesis(moment)
        if record.seq != link.seq + 1:
            return f"has sequence number {record.seq} where {link.seq + 1} is due: records were removed, added or moved"
        if record.prev != link.head:
            return "does not follow the record before it: one of them was changed"
        epoch = next_epoch(link, moment, self._founded)
        if record.epoch != epoch:
            return f"has the key of epoch {record.epoch} where its time demands {epoch}: it was made at another time"
        if self.key is not None and epoch >= self.key.epoch:
            self.key = self.key.at(epoch)
            if not hmac.compare_digest(self.key.mac(body).hex().encode(), mac):
                return "has a wrong MAC: it was changed by somebody without the key of its time"
            self.checked += 1
        pruned = _number(record.details.get("segment", 0)) if record.action == PRUNED else 0
        self.link = follow(link, moment, epoch, body, pruned)
        self.backwards += moment.utc < link.ts - CLOCK_STEP
        self.ts = record.ts
        return None


def _number(value: str | int) -> int:
    return value if isinstance(value, int) else 0
