"""Which closed segments have served their time, and their removal."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance.access_config import Audit
from appliance.audit.chain import PRUNED, UNWITNESSED_MAX, Link, Walker, genesis
from appliance.audit.journal import DAY, internal
from appliance.audit.log import AuditLog
from appliance.audit.packing import unpack
from appliance.audit.record import Moment, format_time, parse_time, to_microseconds
from appliance.audit.scan import lines_of_file, lines_of_pieces, scan
from appliance.audit.seal_keys import FILE_NAME as SEAL_KEYS
from appliance.audit.seal_keys import SealKeyChain
from appliance.audit.seals import Seal, seal_hash
from appliance.audit.segments import Listing
from appliance.audit.signed import read_line
from appliance.clock import Clock, utc_now
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher
from appliance.state_dir import sync_folder

CLOCKS_APART_MAX: Final = UNWITNESSED_MAX


class Plan(Struct, frozen=True):
    """segments: to remove, oldest first. refusal: why none may go although some may be old enough."""

    segments: tuple[int, ...]
    refusal: str | None = None


class Pruned(Struct, frozen=True):
    """segments: removed now. refusal: why none, or no more, were."""

    segments: tuple[int, ...]
    refusal: str | None


def plan(seals: Sequence[Seal], present: Collection[int], newest: Link, now: int, settings: Audit) -> Plan:
    """Which segments may go. Pure.

    seals: in order. present: segments whose records are there. newest: of the last record. now: wall clock, µs.

    A segment is old when its last record is, by the wall clock, by the time of the newest record, and by the time that
    the log has witnessed itself: a clock that was set forward, before or after a start, makes nothing older. The oldest
    go first, without a gap.
    """
    if settings.legal_hold:
        return Plan((), "legal_hold is set")
    if abs(now - newest.ts) > CLOCKS_APART_MAX:
        return Plan(
            (), f"the clock says {format_time(now)}, but the newest record is of {format_time(newest.ts)}: one is wrong"
        )
    life = settings.retention_days * DAY
    going = []
    for seal in seals:
        if seal.segment not in present:
            continue
        ended = seal.link.ts if seal.last_ts is None else parse_time(seal.last_ts)
        youngest = min(now - ended, newest.ts - ended, newest.witnessed - seal.link.witnessed)
        if youngest <= life:
            break
        going.append(seal.segment)
    return Plan(tuple(going))


async def prune(log: AuditLog, folder: Path, settings: Audit, cipher: Cipher, now: Clock = utc_now) -> Pruned:
    """Removes what `plan` says, each after its proof and a durable `audit.pruned` record. Seals stay.

    Reads files in threads. Raises AuditUnavailable, StateError, and OSError; what is removed by then has its record.
    """
    seals, present = await asyncio.to_thread(_read_seals, folder)
    wanted = plan([seal for seal, _ in seals], present, log.link, to_microseconds(now()), settings)
    hashes = {seal.segment: (seal, name) for seal, name in seals}
    gone: list[int] = []
    for number in wanted.segments:
        seal, name = hashes[number]
        before = hashes[number - 1][0].link if number > 1 else genesis(Moment(0, 0, ""))
        trouble = await asyncio.to_thread(_damage, folder, seal, before, cipher)
        if trouble is not None:
            return Pruned(tuple(gone), f"segment {number} {trouble}; it stays as evidence, and so do those after it")
        await log.append_durably(
            internal(
                PRUNED,
                segment=number,
                seal=name,
                last_ts=seal.last_ts or "",
                records=seal.records,
                retention_days=settings.retention_days,
            )
        )
        await asyncio.to_thread(_remove, folder, number)
        gone.append(number)
    return Pruned(tuple(gone), wanted.refusal)


def _read_seals(folder: Path) -> tuple[list[tuple[Seal, str]], frozenset[int]]:
    """Every seal with its hash, all proven, in order. Raises StateError."""
    listing = Listing.of(folder)
    chain = SealKeyChain.decode((folder / SEAL_KEYS).read_bytes()) if listing.seals else None
    seals: list[tuple[Seal, str]] = []
    for number in sorted(listing.seals):
        line = listing.files(number).seal.read_bytes()
        public = None if chain is None else chain.public_for(number)
        seal = None if public is None else read_line(line, Seal, public)
        follows = seal is not None and (not seals or seal.previous == seals[-1][1])
        if seal is None or seal.segment != number or number != len(seals) + 1 or not follows:
            raise StateError(
                f"the seal of audit segment {number} is forged or out of order; run `appliance audit verify`"
            )
        seals.append((seal, seal_hash(line)))
    return seals, listing.plain | listing.packed


def _damage(folder: Path, seal: Seal, before: Link, cipher: Cipher) -> str | None:
    """What keeps the segment from being what its seal says. A segment sealed as broken need only be unchanged."""
    files = Listing.of(folder).files(seal.segment)
    lines: Iterable[bytes]
    lines = lines_of_file(files.plain) if files.plain.exists() else lines_of_pieces(unpack(files, cipher))
    walker = Walker(before, seal.founded)
    try:
        scanned = scan(lines, walker, {})
    except (StateError, OSError) as error:
        return f"cannot be read: {error}"
    if scanned.sha256 != seal.sha256:
        return "is not what its seal says"
    if seal.broken is None and (scanned.broken is not None or walker.link != seal.link):
        return "does not hold the chain that its seal says"
    return None


def _remove(folder: Path, number: int) -> None:
    files = Listing.of(folder).files(number)
    files.packed.unlink(missing_ok=True)
    files.plain.unlink(missing_ok=True)
    sync_folder(folder)
