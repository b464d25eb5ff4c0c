"""What is refused for ever, ready to be asked at every request. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security.credentials import Credentials, Issued, Revocation, RevocationKind

REVOCATIONS_MAX: Final = 200_000
# A key id is a SHA-1 or SHA-256; a fingerprint written with colons has more than one.
_ELSEWHERE = re.compile(r"[0-9a-f]{40,64}:[0-9a-f]{1,40}")
DIGITS_MIN: Final = 8


class RevocationSet:
    """An immutable index; each question is one look-up. Keys carry their revocation in their own record."""

    __slots__ = ("certificates", "principals", "tokens")

    def __init__(self, revocations: Iterable[Revocation]) -> None:
        by_kind: dict[RevocationKind, set[str]] = {"certificate": set(), "principal": set(), "token": set()}
        for revocation in revocations:
            by_kind[revocation.kind].add(revocation.value)
        self.certificates = frozenset(by_kind["certificate"])
        self.principals = frozenset(by_kind["principal"])
        self.tokens = frozenset(by_kind["token"])


def revoke(
    document: Credentials, kind: RevocationKind, value: str, now: datetime, *, by: str, reason: str
) -> Credentials:
    """Adds a revocation; one that is there already changes nothing. Raises ChangeRefused at REVOCATIONS_MAX."""
    if any(known.kind == kind and known.value == value for known in document.revocations):
        return document
    if len(document.revocations) >= REVOCATIONS_MAX:
        raise ChangeRefused("conflict", f"there are {REVOCATIONS_MAX} revocations; rotate the client CA instead")
    added = Revocation(kind=kind, value=value, time=now, by=by, reason=reason)
    return replace(document, revocations=(*document.revocations, added))


def restore_principal(document: Credentials, name: str) -> Credentials:
    """Takes a principal's revocation back; its keys and certificates count again. Raises ChangeRefused."""
    kept = tuple(known for known in document.revocations if (known.kind, known.value) != ("principal", name))
    if len(kept) == len(document.revocations):
        raise ChangeRefused("not_found", f"the principal {name!r} is not revoked")
    return replace(document, revocations=kept)


def certificate_named(document: Credentials, reference: str) -> tuple[str, str]:
    """(what a revocation names, whose it is) of a certificate issued here, or of `<issuer key id>:<serial>` elsewhere.

    Raises ChangeRefused.
    """
    if _ELSEWHERE.fullmatch(reference.lower()):
        return reference.lower(), "a certificate issued elsewhere"
    issued = find_issued(document, reference)
    return issued.reference, issued.name


def find_issued(document: Credentials, reference: str) -> Issued:
    """The certificate of a serial number or fingerprint, or of the beginning of one. Raises ChangeRefused."""
    fingerprint = reference.lower().replace(":", "")
    # Tools write serial numbers with a zero in front, to make the digits even or the number positive.
    serial = fingerprint.lstrip("0")
    found = [
        issued
        for issued in document.issued
        if (len(serial) >= DIGITS_MIN and issued.serial.startswith(serial))
        or (len(fingerprint) >= DIGITS_MIN and issued.fingerprint.startswith(fingerprint))
    ]
    if not found:
        raise ChangeRefused(
            "not_found",
            f"no certificate issued here has the serial number or fingerprint {reference!r} "
            f"(at least {DIGITS_MIN} digits); `appliance certs list` shows them",
        )
    if len(found) > 1:
        raise ChangeRefused("invalid", f"{reference!r} fits {len(found)} certificates; give more digits")
    return found[0]
