"""What access control does by itself: renew, revert, move on, forget, and warn before something ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from appliance.audit.record import APPLIANCE, AuditEvent
from appliance.errors import ApplianceError
from appliance.security.allow_changes import due_to_end, end_entries, forget_ended, revert_allow
from appliance.security.allow_endings import EntryEnding, entries_ending
from appliance.security.certificate_facts import issuer_key_id, own_key_id
from appliance.security.certificate_names import server_names_of
from appliance.security.change_details import entry_names
from appliance.security.credentials import AUTHORITIES, AllowEntry, Credentials
from appliance.security.disk_guard import DiskGuard
from appliance.security.issuing import due_for_renewal, forget_issued, make_server
from appliance.security.key_changes import forget_keys, move_keys
from appliance.security.office import Office
from appliance.security.profiles import Profiles
from appliance.security.revocations import RevocationSet
from appliance.security.server_changes import show_server
from appliance.security.stored_pair import certificate_of

ALARM_DAYS: Final = (30, 14, 7, 1)
KEY_ALARM: Final = timedelta(days=14)
TICK_SECONDS: Final = 1.0
ROUND_TICKS: Final = 60
LONG_TICKS: Final = 3600

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something ends soon. days: the smallest of ALARM_DAYS that it is within, 0 once it has ended."""

    what: str
    not_after: datetime
    days: int


def alarms(document: Credentials, now: datetime) -> Iterator[Alarm]:
    """Every certificate that ends within 30 days, or has, and every API key that ends within 14.

    Of a client only its newest certificate, none that is revoked, and none that ended more than 30 days ago.
    """
    ends = own_ends(document)
    # Of a key two weeks are enough: it is made in a minute, and one of a month would be an alarm from its first day.
    for record in document.keys.values():
        if record.not_after is not None and record.state(now) == "active" and record.not_after - now <= KEY_ALARM:
            ends.append((f"the API key {record.kid} of {record.principal}", record.not_after))
    ends += [(f"the certificate of {kind} {name}", end) for (kind, name), end in newest_issued(document, now).items()]
    for what, not_after in ends:
        left = not_after - now
        if left < timedelta(0):
            yield Alarm(what, not_after, 0)
        elif (days := min((days for days in ALARM_DAYS if left <= timedelta(days=days)), default=None)) is not None:
            yield Alarm(what, not_after, days)


def own_ends(document: Credentials) -> list[tuple[str, datetime]]:
    """The certificates without which nobody is served, and when each ends."""
    ends = [("the server certificate", certificate_of(document.server.active).not_valid_after_utc)]
    for name in AUTHORITIES:
        ends.append((f"the {name} CA", certificate_of(document.authorities[name].issuing).not_valid_after_utc))
    return ends


def newest_issued(document: Credentials, now: datetime) -> dict[tuple[str, str], datetime]:
    """By kind and name, when each holder's newest certificate ends.

    None that is revoked, and none that ended more than 30 days ago.
    """
    newest: dict[tuple[str, str], datetime] = {}
    refused = RevocationSet(document.revocations)
    for issued in document.issued:
        gone = now - issued.not_after > timedelta(days=ALARM_DAYS[0]) or issued.reference in refused.certificates
        if gone or (issued.kind == "client" and issued.name in refused.principals):
            continue
        key = (issued.kind, issued.name)
        newest[key] = max(issued.not_after, newest.get(key, issued.not_after))
    return newest


def renewal_is_due(document: Credentials, profiles: Profiles, names: Iterable[str], now: datetime) -> bool:
    """Whether our own authority has to make, and can make, a server certificate that is better than the active one.

    names: what it must cover. One that was made elsewhere only an administrator can have made anew.
    """
    authority, stored = document.authorities["server"], document.server.active
    active, issuer = certificate_of(stored), certificate_of(authority.issuing)
    if stored.chain or now >= issuer.not_valid_after_utc:
        return False
    if issuer_key_id(active) not in {own_key_id(certificate_of(pair)) for pair in authority.trusted}:
        return True
    # Before its begin: it was made while the clock was ahead.
    if not server_names_of(active).issuperset(names) or now < active.not_valid_before_utc:
        return True
    # Where both end together, a new one would last no longer than this one.
    return now >= due_for_renewal(stored, profiles.server) and active.not_valid_after_utc < issuer.not_valid_after_utc


class Upkeep:
    """Runs beside the daemon; belongs to its event loop.

    renew_data_keys: as in `security.resealing`. prune: removes audit segments that were kept long enough.
    """

    def __init__(
        self,
        office: Office,
        disk: DiskGuard,
        renew_data_keys: Callable[[], Awaitable[bool]],
        prune: Callable[[], Awaitable[None]],
    ) -> None:
        self._office = office
        self._disk = disk
        self._renew_data_keys = renew_data_keys
        self._prune = prune
        self._announced: set[Alarm] = set()
        self._entries_announced: set[AllowEntry] = set()

    async def run(self) -> None:
        """Until it is cancelled. What may take minutes goes on beside the ticks: one may have to open the allowlist."""
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self._keep_sealed())
            beside.create_task(self._keep_pruned())
            for tick in itertools.count(1):
                await asyncio.sleep(TICK_SECONDS)
                self._disk.look()
                await self._attempt(self._end_trial)
                await self._attempt(self._end_entries)
                if tick % ROUND_TICKS == 0:
                    await self.round()

    async def round(self) -> None:
        """Everything that is due now; one failure does not keep the rest from happening."""
        self._disk.look()
        for work in (
            self._end_trial,
            self._end_entries,
            self._renew_server,
            self._move_keys,
            self._warn,
            self._warn_of_entries,
            self._forget,
        ):
            await self._attempt(work)
        await self._office.seen.save_aside()
        hits = self._office.access.hits
        hits.keep(self._office.access.view.entry_names(), self._office.now())
        await hits.save_aside()

    async def _keep_sealed(self) -> None:
        """Where an older key has to stay, the next look is later each time: each reads all that is sealed."""
        pause = ROUND_TICKS
        while True:
            at_rest = await self._attempt(self._renew_data_keys)
            await asyncio.sleep(pause * TICK_SECONDS)
            pause = ROUND_TICKS if at_rest else min(2 * pause, LONG_TICKS)

    async def _keep_pruned(self) -> None:
        while True:
            await asyncio.sleep(LONG_TICKS * TICK_SECONDS)
            await self._attempt(self._prune)

    async def _attempt(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What came of it; None where it failed, which is in the log."""
        try:
            return await work()
        except ApplianceError as error:
            _log.error("%s: %s", getattr(work, "__name__", "upkeep").strip("_"), error)
        except Exception:
            # The next tick must still come: it may be the one that opens the allowlist again.
            _log.exception("%s failed", getattr(work, "__name__", "upkeep").strip("_"))
        return None

    async def _end_trial(self) -> None:
        trial, now = self._office.document.allow.trial, self._office.now()
        # A clock that was set back does not lengthen a trial without end.
        if trial is None or trial.applied_at <= now < trial.revert_at:
            return

        def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
            # Meanwhile it may have been confirmed, and another one begun.
            return (revert_allow(document) if document.allow.trial == trial else document), None

        _log.warning("the change of the allowlist was not confirmed in time; it is undone")
        await self._office.change(APPLIANCE, "allow.revert", "allowlist", transition)

    async def _end_entries(self) -> None:
        """Nobody has come in by them since their end; now their connections end, and it is recorded once."""
        due = due_to_end(self._office.document.allow, self._office.now())
        if not due:
            return
        ended = entry_names(due)
        _log.info("entries of the allowlist have ended: %s", ended)
        try:
            await self._office.change(
                APPLIANCE,
                "allow.end",
                "allowlist",
                lambda document, now: (end_entries(document, now), None),
                details={"ended": ended},
            )
        except ApplianceError:
            # What cannot be recorded is tried again; their connections do not wait for that.
            self._office.cut()
            raise

    async def _renew_server(self) -> None:
        office, profiles = self._office, self._office.profiles
        names = office.access.view.configured.names
        if not renewal_is_due(office.document, profiles, names, office.now()):
            return

        def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
            if not renewal_is_due(document, profiles, names, now):
                return document, None
            return show_server(document, make_server(document, profiles, names, now)), None

        await office.change(APPLIANCE, "server.renew", "server", transition)

    async def _move_keys(self) -> None:
        office = self._office
        hashes = office.access.to_move
        if not hashes:
            return
        office.access.to_move = {}
        await office.change(
            APPLIANCE,
            "pepper.move",
            "keys",
            lambda document, now: (move_keys(document, hashes), None),
            details={"keys": len(hashes)},
        )

    async def _forget(self) -> None:
        document, now = self._office.document, self._office.now()
        if _without_old(document, now) is not document:
            await self._office.change(
                APPLIANCE,
                "credentials.forget",
                "expired",
                lambda document, now: (_without_old(document, now), None),
            )

    async def _warn(self) -> None:
        due = list(alarms(self._office.document, self._office.now()))
        ending = {(alarm.what, alarm.not_after) for alarm in due}
        self._announced = {alarm for alarm in self._announced if (alarm.what, alarm.not_after) in ending}
        for alarm in due:
            if alarm in self._announced:
                continue
            self._announced.add(alarm)
            ends = "has ended" if alarm.days == 0 else f"ends within {alarm.days} day{'' if alarm.days == 1 else 's'}"
            _log.warning("%s %s: %s", alarm.what, ends, _minute(alarm.not_after))
            self._office.audit.append(
                AuditEvent(
                    action="certificate.alarm",
                    outcome="ok",
                    actor=APPLIANCE,
                    resource=alarm.what,
                    reason="expired" if alarm.days == 0 else "expires_soon",
                    details={"days": alarm.days, "not_after": alarm.not_after.isoformat()},
                )
            )

    async def _warn_of_entries(self) -> None:
        """Once of each entry of the allowlist that ends within a day, before it shuts somebody out."""
        due = ending_entries(self._office)
        self._entries_announced &= {ending.entry for ending in due}
        for ending in due:
            if ending.entry in self._entries_announced:
                continue
            self._entries_announced.add(ending.entry)
            _log.warning(
                "%s ends at %s", ending.what, "; ".join(filter(None, (_minute(ending.until), ending.shut_out)))
            )
            self._office.audit.append(
                AuditEvent(
                    action="allow.alarm",
                    outcome="ok",
                    actor=APPLIANCE,
                    resource=ending.what,
                    reason="expires_soon",
                    details={"until": ending.until.isoformat(), "addresses": len(ending.addresses)},
                )
            )


def ending_entries(office: Office) -> list[EntryEnding]:
    """The allowlist's entries that end within a day, with those of the last 24 hours whom nothing else lets in."""
    now = office.now()
    if not any(entry.counts(now) for entry in office.document.allow.ending):
        return []
    return entries_ending(office.document.allow.entries, office.access.view.allowlists, office.seen.addresses(now), now)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _without_old(document: Credentials, now: datetime) -> Credentials:
    """Without keys, certificates and entries of the allowlist that ended long ago; the same document where none did."""
    return forget_ended(forget_issued(forget_keys(document, now), now), now)
