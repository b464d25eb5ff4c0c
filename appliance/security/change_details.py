"""What a change of the credentials was, for its audit records. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

from appliance.security.credentials import AllowEntry, AllowState, Credentials, Issued, Revocation

# A record's text holds 256 characters.
LIST_CHARS_MAX: Final = 200
_FINGERPRINT_CHARS: Final = 16


def change_details(before: Credentials, after: Credentials) -> dict[str, str | int]:
    """Which networks, keys and certificates differ, as texts of at most some LIST_CHARS_MAX characters; no secrets.

    added, removed: networks, of what is staged or of what counts. kid: new API keys. serial: certificates, issued or
    revoked. revoked: API keys. principal: whose these are. before, after: what has another value now, such as the phase
    of an authority. Takes milliseconds where there are many.
    """
    added, removed = _networks(before.allow, after.allow)
    keys = [] if after.keys is before.keys else [after.keys[kid] for kid in after.keys.keys() - before.keys.keys()]
    revoked = [
        record
        for kid, record in ({} if after.keys is before.keys else after.keys).items()
        if record.revoked is not None and kid in before.keys and before.keys[kid].revoked is None
    ]
    issued, refused = _issued(before, after), _revocations(before, after)
    holders = [holder for revocation in refused for holder in _holders(after, revocation)]
    lists: dict[str, Collection[str]] = {
        "added": added,
        "removed": removed,
        "kid": [record.kid for record in keys],
        "serial": [one.serial for one in issued] + [revocation.value.rpartition(":")[2] for revocation in refused],
        "revoked": [record.kid for record in revoked],
        "principal": {one.principal for one in (*keys, *revoked)} | {one.name for one in (*issued, *holders)},
    }
    was, now = _values(before), _values(after)
    if not added and not removed:
        notes = _notes(before.allow, after.allow)
        was, now = {**was, **notes[0]}, {**now, **notes[1]}
    differ = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
    lists |= {
        "before": [f"{name} {was[name]}" for name in differ if name in was],
        "after": [f"{name} {now[name]}" for name in differ if name in now],
    }
    return {name: _listed(sorted(texts)) for name, texts in lists.items() if texts}


def _values(document: Credentials) -> dict[str, str]:
    """What has one value at a time, by name: the server certificate by the beginning of its fingerprint."""
    phases = {f"{name} CA": authority.phase for name, authority in document.authorities.items()}
    server = hashlib.sha256(document.server.active.certificate).hexdigest()[:_FINGERPRINT_CHARS]
    return {**phases, "server certificate": server}


def entry_names(entries: Iterable[AllowEntry]) -> str:
    """Networks with their listener, as far as there is room."""
    return _listed(sorted(map(entry_name, entries)))


def _networks(before: AllowState, after: AllowState) -> tuple[list[str], list[str]]:
    """Added and removed: by what counts now, by the end of a trial, else by what is staged."""
    old, new = _compared(before, after)
    was, now = ({entry_name(entry): entry for entry in entries} for entries in (old, new))
    return [name + _end(now[name]) for name in now.keys() - was.keys()], list(was.keys() - now.keys())


def _compared(before: AllowState, after: AllowState) -> tuple[tuple[AllowEntry, ...], tuple[AllowEntry, ...]]:
    if after.entries != before.entries:
        return before.entries, after.entries
    if before.trial is not None and after.trial is None:
        return before.trial.previous, after.entries
    return (
        before.entries if before.staged is None else before.staged,
        after.entries if after.staged is None else after.staged,
    )


def _notes(before: AllowState, after: AllowState) -> tuple[dict[str, str], dict[str, str]]:
    """By network, its note and its end before and after; where the change is of nothing else."""
    old, new = _compared(before, after)
    if old is new:
        return {}, {}
    was, now = ({entry_name(entry): f'"{entry.comment}"{_end(entry)}' for entry in entries} for entries in (old, new))
    return was, now


def _end(entry: AllowEntry) -> str:
    return "" if entry.until is None else f" until {entry.until:%Y-%m-%dT%H:%M:%SZ}"


def entry_name(entry: AllowEntry) -> str:
    """Its network, and its listener where it is for one alone."""
    return entry.network if entry.listener is None else f"{entry.network} ({entry.listener})"


def _issued(before: Credentials, after: Credentials) -> list[Issued]:
    if after.issued is before.issued:
        return []
    known = {issued.fingerprint for issued in before.issued}
    return [issued for issued in after.issued if issued.fingerprint not in known]


def _revocations(before: Credentials, after: Credentials) -> list[Revocation]:
    """New ones of certificates; those of tokens and principals are what the record is about."""
    if after.revocations is before.revocations:
        return []
    known = {revocation.value for revocation in before.revocations if revocation.kind == "certificate"}
    return [one for one in after.revocations if one.kind == "certificate" and one.value not in known]


def _holders(document: Credentials, revocation: Revocation) -> list[Issued]:
    """The certificate that is revoked; none where it was issued elsewhere."""
    serial = revocation.value.rpartition(":")[2]
    return [one for one in document.issued if one.serial == serial and one.reference == revocation.value]


def _listed(texts: list[str]) -> str:
    """The first of them, and how many there are where that is not all."""
    shown, chars = 0, 0
    for text in texts:
        chars += len(text) + 2
        if shown and chars > LIST_CHARS_MAX:
            break
        shown += 1
    return ", ".join(texts[:shown]) + (f", ... ({len(texts)} in all)" if shown < len(texts) else "")
