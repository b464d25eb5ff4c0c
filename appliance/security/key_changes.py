"""What can happen to API keys: made, rotated, revoked, forgotten. Pure: from one document to the next.

    active ──rotate──▶ retiring ──grace over──▶ retired          revoked: from any state, for ever
       └──────────────not_after──▶ expired

A successor works at once and its predecessor until its grace is over, so whoever has to type the new key into forms
has that long.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security.api_keys import ApiKey, KeyRecord, Peppers
from appliance.security.credentials import Credentials, Pepper

KEYS_MAX: Final = 20_000
GRACE_MAX: Final = timedelta(days=14)
FORGET_AFTER: Final = timedelta(days=400)


def peppers_of(document: Credentials) -> Peppers:
    """The peppers, ready to hash."""
    return Peppers({pepper.id: pepper.secret for pepper in document.peppers})


def add_key(
    document: Credentials, key: ApiKey, principal: str, now: datetime, life: timedelta, label: str = ""
) -> Credentials:
    """Records a new key of a principal. Raises ChangeRefused when there are KEYS_MAX."""
    if len(document.keys) >= KEYS_MAX:
        raise ChangeRefused("conflict", f"there are {KEYS_MAX} API keys; revoke and forget old ones first")
    record = KeyRecord.of(key, principal, peppers_of(document), created=now, not_after=now + life, label=label)
    return _with(document, record)


def rotate_key(
    document: Credentials,
    kid: str,
    fresh: ApiKey,
    now: datetime,
    *,
    grace: timedelta,
    life: timedelta,
    force: bool = False,
) -> Credentials:
    """Records `fresh` as the successor of `kid`, which works on until `now + grace`.

    Raises ChangeRefused: unknown key, one that works no more, a grace beyond GRACE_MAX, and, without `force`, while
    the predecessor of `kid` still has grace: two keys of one line work at once, not three.
    """
    record = find_key(document, kid)
    if not timedelta(0) <= grace <= GRACE_MAX:
        raise ChangeRefused("invalid", f"the grace is 0 to {GRACE_MAX.days} days")
    state = record.state(now)
    if state != "active":
        successor = document.keys.get(record.successor or "")
        works = successor is not None and successor.state(now) in ("active", "retiring")
        hint = f"its successor is {record.successor}" if works else "make a new key instead"
        raise ChangeRefused("conflict", f"the API key {kid} is {state}; {hint}")
    for other in document.keys.values():
        if other.successor == kid and other.state(now) == "retiring":
            if not force:
                raise ChangeRefused(
                    "needs_force",
                    f"its predecessor {other.kid} still works until {other.works_until:%Y-%m-%d %H:%M} UTC; "
                    "wait, revoke that one, or repeat with --force to retire it now",
                )
            document = _with(document, replace(other, retire_at=now))
    document = add_key(document, fresh, record.principal, now, life, record.label)
    return _with(document, replace(record, retire_at=now + grace, successor=fresh.kid))


def revoke_key(document: Credentials, kid: str, now: datetime) -> Credentials:
    """Refuses the key from now on. Revoking a revoked key changes nothing. The audit log has who did it, and why."""
    record = find_key(document, kid)
    return document if record.revoked is not None else _with(document, replace(record, revoked=now))


def forget_keys(document: Credentials, now: datetime) -> Credentials:
    """Drops the records of keys that have not worked for FORGET_AFTER: nobody knows them then.

    The audit log keeps what they did.
    """
    gone = {kid for kid, record in document.keys.items() if _forgettable(record, now)}
    if not gone:
        return document
    return replace(document, keys={kid: record for kid, record in document.keys.items() if kid not in gone})


def add_pepper(document: Credentials, secret: bytes, now: datetime) -> Credentials:
    """The next pepper. Keys move to it when they are used."""
    newest = max(pepper.id for pepper in document.peppers)
    return replace(document, peppers=(*document.peppers, Pepper(id=newest + 1, secret=secret, created=now)))


def retire_pepper(document: Credentials, pepper: int, now: datetime, *, force: bool) -> Credentials:
    """Drops a pepper, and with it every key that has not moved: those are revoked, which needs `force`."""
    if pepper not in {known.id for known in document.peppers}:
        raise ChangeRefused("not_found", f"there is no pepper {pepper}")
    if pepper == max(known.id for known in document.peppers):
        raise ChangeRefused("conflict", "the newest pepper cannot be retired; rotate the pepper first")
    left = keys_under(document, pepper, now)
    if left and not force:
        raise ChangeRefused(
            "needs_force",
            f"{len(left)} working keys have not been used since the pepper was rotated and would be revoked: "
            f"{', '.join(left[:5])}{' …' if len(left) > 5 else ''}; repeat with --force to do that",
        )
    for kid in left:
        document = revoke_key(document, kid, now)
    return replace(document, peppers=tuple(known for known in document.peppers if known.id != pepper))


def keys_under(document: Credentials, pepper: int, now: datetime) -> list[str]:
    """The keys that work and are still hashed under a pepper."""
    return [
        record.kid
        for record in document.keys.values()
        if record.pepper == pepper and record.state(now) in ("active", "retiring")
    ]


def move_keys(document: Credentials, hashes: Mapping[str, tuple[int, bytes]]) -> Credentials:
    """Stores, by kid, pepper and HMAC of keys that were just shown. Keys and peppers that are gone are left out."""
    known = {pepper.id for pepper in document.peppers}
    moved = {
        kid: replace(document.keys[kid], hmac=hashed, pepper=pepper)
        for kid, (pepper, hashed) in hashes.items()
        if kid in document.keys and pepper in known and pepper > document.keys[kid].pepper
    }
    return replace(document, keys={**document.keys, **moved}) if moved else document


def find_key(document: Credentials, kid: str) -> KeyRecord:
    """Raises ChangeRefused."""
    record = document.keys.get(kid)
    if record is None:
        raise ChangeRefused("not_found", f"there is no API key {kid!r}; `appliance keys list` shows their ids")
    return record


def _with(document: Credentials, record: KeyRecord) -> Credentials:
    return replace(document, keys={**document.keys, record.kid: record})


def _forgettable(record: KeyRecord, now: datetime) -> bool:
    ends = [end for end in (record.revoked, record.works_until) if end is not None]
    return bool(ends) and now - min(ends) > FORGET_AFTER
