"""Replacing a certificate authority without a moment in which somebody is locked out. Pure.

    standby ──start──▶ trust_both ──issue──▶ issue_new ──finalize──▶ standby
                            └───────rollback──────┘──────────────────▶ standby (the old one)

trust_both: certificates of both are accepted, the old one signs. issue_new: the new one signs, and who holds an old
certificate gets a new one. finalize: the old one counts no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security.credentials import Authority, AuthorityName, CaPhase, Credentials, StoredPair

STRAGGLER_AGE: Final = timedelta(days=7)
_NEXT_STEP: Final[Mapping[CaPhase, str]] = {"standby": "start", "trust_both": "issue", "issue_new": "finalize"}


def under_way(document: Credentials) -> list[str]:
    """A sentence for each rotation that is not at its end."""
    return [
        f"the {name} CA is being replaced since {authority.since:%Y-%m-%d} ({authority.phase}); "
        f"next: `appliance certs rotate-ca {name} {_NEXT_STEP[authority.phase]}`"
        for name, authority in document.authorities.items()
        if authority.phase != "standby"
    ]


def start_rotation(document: Credentials, name: AuthorityName, successor: StoredPair, now: datetime) -> Credentials:
    """standby → trust_both. Raises ChangeRefused in another phase."""
    authority = _in_phase(document, name, "standby")
    return _with(document, name, replace(authority, successor=successor, phase="trust_both", since=now))


def issue_from_successor(document: Credentials, name: AuthorityName, now: datetime) -> Credentials:
    """trust_both → issue_new. Raises ChangeRefused in another phase."""
    authority = _in_phase(document, name, "trust_both")
    return _with(document, name, replace(authority, phase="issue_new", since=now))


def finalize_rotation(
    document: Credentials, name: AuthorityName, stragglers: list[str], now: datetime, *, force: bool
) -> Credentials:
    """issue_new → standby, without the old authority.

    stragglers: who showed a certificate of the old one in the last STRAGGLER_AGE. Raises ChangeRefused for them without
    `force`, and in another phase.
    """
    authority = _in_phase(document, name, "issue_new")
    assert authority.successor is not None
    if stragglers and not force:
        raise ChangeRefused(
            "needs_force",
            f"{len(stragglers)} showed a certificate of the old {name} CA in the last {STRAGGLER_AGE.days} days: "
            f"{', '.join(stragglers[:10])}"
            f"{' …' if len(stragglers) > 10 else ''}; renew theirs first, or repeat with --force to lock them out",
        )
    return _with(document, name, Authority(current=authority.successor, since=now))


def roll_back(document: Credentials, name: AuthorityName, now: datetime) -> Credentials:
    """Back to the old authority alone; what the new one signed is no longer accepted. Raises ChangeRefused."""
    authority = document.authorities[name]
    if authority.phase == "standby":
        raise ChangeRefused("conflict", f"no rotation of the {name} CA is under way")
    return _with(document, name, Authority(current=authority.current, since=now))


def _in_phase(document: Credentials, name: AuthorityName, phase: str) -> Authority:
    authority = document.authorities[name]
    if authority.phase != phase:
        following = _NEXT_STEP[authority.phase]
        raise ChangeRefused(
            "conflict", f"the {name} CA's rotation is in phase {authority.phase}; the next step is `{following}`"
        )
    return authority


def _with(document: Credentials, name: AuthorityName, authority: Authority) -> Credentials:
    return replace(document, authorities={**document.authorities, name: authority})
