"""Certificate and API key together: is this a principal of ours? Pure.

Mode `cert_and_key`: both must be valid and belong to the same principal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.security.api_keys import ApiKey, KeyRecord, matches
from appliance.security.identity import PeerIdentity
from appliance.security.refusal import Refusal
from appliance.security.secret_files import Generations


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request is from. id: stable while keys and certificates change; kid: the key used."""

    id: str
    kid: str


def decide(
    identity: PeerIdentity,
    authorization: Sequence[str],
    find: Callable[[str], KeyRecord | None],
    peppers: Generations,
    now: datetime,
) -> Principal:
    """The principal behind a certificate and the values of the request's Authorization headers. Raises Refusal.

    Whatever is wrong with a key, the client reads the same sentence; only the operator's reason tells them apart.
    """
    text = _bearer(authorization)
    identity.check_valid(now)
    if not text:
        raise Refusal(
            "missing_api_key",
            "No API key. Send the header 'Authorization: Bearer <API key>'.",
            reason="sent no API key",
        )
    key = ApiKey.parse(text)
    if key is None:
        raise _invalid("sent an API key that is mistyped or cut short")
    record = find(key.kid) if key.kind == "sk" else None
    if not matches(key, record, peppers):
        raise _invalid(_why(key, record, peppers))
    assert record is not None
    if record.principal != identity.name:
        raise Refusal(
            "key_certificate_mismatch",
            "The API key belongs to another client than the certificate.",
            reason=f"sent the API key {key.kid} of client {record.principal}",
        )
    return Principal(record.principal, record.kid)


def _bearer(authorization: Sequence[str]) -> str:
    """The token after `Bearer`; empty where there is none."""
    if len(authorization) > 1:
        raise Refusal(
            "invalid_request",
            "More than one Authorization header.",
            reason=f"sent {len(authorization)} Authorization headers",
        )
    scheme, _, token = "".join(authorization).strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _why(key: ApiKey, record: KeyRecord | None, peppers: Generations) -> str:
    if key.kind == "adm":
        return f"sent the admin key {key.kid}, which is never valid here"
    if record is None:
        return f"sent the unknown API key {key.kid}"
    if peppers.get(record.pepper) is None:
        return f"sent the API key {key.kid}, whose pepper (generation {record.pepper}) is missing in secrets/"
    return f"sent the API key {key.kid} with a wrong secret"


def _invalid(reason: str) -> Refusal:
    return Refusal("invalid_api_key", "Incorrect API key provided.", reason=reason)
