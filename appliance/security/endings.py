"""When certificates and keys end, as figures: the soonest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from appliance.security.credentials import AUTHORITIES, AuthorityName, Credentials
from appliance.security.stored_pair import certificate_of
from appliance.security.upkeep import KEY_ALARM, newest_issued
from appliance.telemetry.snapshot import CertificateFigures

# What ends later than these is not shown.
ENDINGS_MAX: Final = 32


class Endings(Struct, frozen=True, kw_only=True):
    """keys_active: API keys that work. keys_ending: of them, those that end within two weeks."""

    certificates: tuple[CertificateFigures, ...]
    keys_active: int
    keys_ending: int


def endings(document: Credentials, now: datetime) -> Endings:
    """Parses the certificates of the document: some milliseconds with thousands of clients."""
    found = sorted(_certificates(document, now), key=lambda one: one.not_after)
    # The appliance's own are always among them: without them nobody is served.
    own = [one for one in found if one.role not in ("client", "admin", "api_key")]
    others = [one for one in found if one.role in ("client", "admin", "api_key")]
    working = [key for key in document.keys.values() if key.state(now) in ("active", "retiring")]
    ending = [key for key in working if key.works_until is not None and key.works_until - now <= KEY_ALARM]
    return Endings(
        certificates=tuple(sorted(own + others[: ENDINGS_MAX - len(own)], key=lambda one: one.not_after)),
        keys_active=len(working),
        keys_ending=len(ending),
    )


def _certificates(document: Credentials, now: datetime) -> Iterator[CertificateFigures]:
    server = certificate_of(document.server.active).not_valid_after_utc
    yield CertificateFigures(name="server", role="server", not_after=server.timestamp())
    for name in AUTHORITIES:
        ends = certificate_of(document.authorities[name].issuing).not_valid_after_utc
        yield CertificateFigures(name=f"{name} CA", role=_CA_ROLES[name], not_after=ends.timestamp())
    for (kind, holder), end in newest_issued(document, now).items():
        role: Literal["admin", "client"] = "admin" if kind == "admin" else "client"
        yield CertificateFigures(name=holder, role=role, not_after=end.timestamp())
    for record in document.keys.values():
        if record.works_until is not None and record.state(now) in ("active", "retiring"):
            yield CertificateFigures(name=record.kid, role="api_key", not_after=record.works_until.timestamp())


_CA_ROLES: Final[Mapping[AuthorityName, Literal["server_ca", "client_ca", "admin_ca"]]] = {
    "server": "server_ca",
    "client": "client_ca",
    "admin": "admin_ca",
}
