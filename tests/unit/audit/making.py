"""What the audit tests share: a clock that a test moves, a real cipher, and logs made in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.access_config import Audit
from appliance.audit.chain import EpochKey, Link, add
from appliance.audit.clock import HostClock
from appliance.audit.journal import Journal
from appliance.audit.keys import SealKey, VerificationKey
from appliance.audit.log_file import WriteCall
from appliance.audit.packing import pack
from appliance.audit.record import Actor, AuditEvent, Moment, decode_body, parse_time, split_line
from appliance.audit.scan import lines_of_file
from appliance.audit.seals import Seal
from appliance.audit.segments import VERIFICATION_KEY, Listing
from appliance.audit.signed import peek_line
from appliance.errors import StateError

SECOND = 10**6
NOON = 1_795_608_000 * SECOND  # 2026-11-25T12:00:00Z
ALICE = Actor(principal="user:alice", role="inference", credential="kid0123456789", address="10.0.0.7")


def to_datetime(utc: int) -> datetime:
    """The inverse of `to_microseconds`."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc)


class AesCipher:
    """AES-256-GCM with one key and the record id as associated data."""

    def __init__(self, key: bytes = bytes(range(32))) -> None:
        self._aead = AESGCM(key)

    def seal(self, record_id: str, plaintext: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, plaintext, record_id.encode())

    def unseal(self, record_id: str, sealed: bytes) -> bytes:
        try:
            return self._aead.decrypt(sealed[:12], sealed[12:], record_id.encode())
        except (InvalidTag, ValueError) as error:
            raise StateError(f"{record_id}: was changed, or is sealed under another key") from error


@dataclass
class MovableClock:
    """Stands still until a test moves it. utc, mono_us: µs."""

    utc: int = NOON
    mono_us: int = 5 * SECOND
    boot: str = "boot00000001"

    def clock(self) -> HostClock:
        return HostClock(self.now, lambda: self.mono_us, self.boot)

    def now(self) -> datetime:
        return to_datetime(self.utc)

    def moment(self) -> Moment:
        return Moment(self.utc, self.mono_us, self.boot)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.utc += int(seconds * SECOND)
        self.mono_us += int(seconds * SECOND)

    def set_by(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.utc += int(seconds * SECOND)

    def reboot(self) -> None:
        self.boot = f"boot{int(self.boot[4:]) + 1:08}"
        self.mono_us = 20 * SECOND


@dataclass
class Site:
    """One audit folder, and all that its owner holds."""

    folder: Path
    settings: Audit = field(default_factory=Audit)
    time: MovableClock = field(default_factory=MovableClock)
    cipher: AesCipher = field(default_factory=AesCipher)
    seal_key: SealKey = field(default_factory=SealKey.generate)

    def journal(self, write: WriteCall = os.write) -> Journal:
        return Journal(self.folder, self.settings, self.cipher, self.seal_key, self.time.clock(), write=write)

    def write(self, journal: Journal, count: int, *, seconds: float = 1.0) -> None:
        """Records `count` events, each `seconds` after the one before."""
        events = []
        for number in range(count):
            events.append((event(number), self.time.moment()))
            self.time.advance(seconds)
        written = journal.write(events)
        assert (written.count, written.error) == (count, None)

    def pack(self) -> None:
        """Encrypts what is closed."""
        listing = Listing.of(self.folder)
        for number in listing.plain & listing.seals:
            pack(listing.files(number), self.seal(number).sha256, self.cipher)

    def seal(self, number: int) -> Seal:
        seal = peek_line(Listing.of(self.folder).files(number).seal.read_bytes(), Seal)
        assert seal is not None
        return seal

    def k0(self) -> VerificationKey:
        return VerificationKey.decode((self.folder / VERIFICATION_KEY).read_bytes())

    def plain(self, number: int) -> Path:
        return self.folder / f"{number:08}.log"

    def lines(self, number: int) -> list[bytes]:
        return list(lines_of_file(self.plain(number)))


def event(number: int = 0, **details: str | int) -> AuditEvent:
    return AuditEvent(
        action="chat.completions",
        outcome="allow",
        actor=ALICE,
        resource="model:demo",
        request_id=f"req-{number:06}",
        tokens=(100, 200),
        milliseconds=1200,
        details=details,
    )


def three_segments(site: Site, *, records: int = 12, packed: bool = True) -> Journal:
    """Segments 1 and 2 are closed, 3 is open; each spans more than one epoch."""
    journal = site.journal()
    for _ in range(2):
        site.write(journal, records, seconds=20)
        journal.roll_now()
    site.write(journal, records, seconds=20)
    journal.close()
    if packed:
        site.pack()
    return journal


def forge(lines: Iterable[bytes], start: Link, key: EpochKey, founded: int) -> list[bytes]:
    """What an intruder who holds `key` makes of `lines`: the same records, hashed and sealed anew as our code would."""
    link, forged = start, []
    for line in lines:
        parts = split_line(line)
        assert parts is not None
        record = decode_body(parts[0])
        moment = Moment(parse_time(record.ts), record.mono, record.boot)
        again = AuditEvent(
            action=record.action,
            outcome=record.outcome,
            actor=record.actor,
            resource=record.resource,
            reason=record.reason,
            request_id=record.request_id,
            tokens=record.tokens,
            milliseconds=record.milliseconds,
            details=record.details,
        )
        added = add(link, key, founded, again, moment)
        link, key = added.link, added.key
        forged.append(added.line)
    return forged
