"""Who a request is from, and whether it may come in. Pure.

What a client must show depends on the listener: `cert_and_key` a certificate and a key of the same principal, `cert`
the certificate (an Authorization header does not count then), `key` the key. Where a key is due, a JWT of a configured
issuer stands for one. Nothing falls through: what is shown and wrong is refused, whatever else is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from appliance.access_config import PrincipalSettings
from appliance.security.access_view import ADMIN_LISTENER, AccessView
from appliance.security.allowlist import Rule
from appliance.security.api_keys import ApiKey, KeyRecord, matches
from appliance.security.crl import expired
from appliance.security.identity import Peer, PeerIdentity, certificate_refused
from appliance.security.jwt_tokens import looks_like_jwt
from appliance.security.refusal import INCORRECT_KEY, Refusal


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request is from. id: stable while its credentials change.

    kid: the key or token that was shown, or the beginning of the certificate's fingerprint. expires: when a key that
    has a successor stops to work.
    """

    id: str
    credential: Literal["key", "token", "certificate"]
    kid: str
    settings: PrincipalSettings
    expires: datetime | None = None


def decide(
    view: AccessView, peer: Peer, identity: PeerIdentity | None, authorization: Sequence[str], now: datetime
) -> Principal:
    """The principal behind a connection and the values of its request's Authorization headers. Raises Refusal.

    After `check_address`, which says whether a request may come from there at all.
    identity: of the peer's certificate; None where the listener asks for none. Whatever is wrong with a key, the client
    reads the same sentence; only the operator's reason tells the faults apart.
    """
    text = bearer_token(authorization)
    mode = view.mode(peer.listener)
    if mode != "key":
        assert identity is not None, "the handshake asked for a certificate"
        check_certificate(view, identity, view.issuers, now)
    if mode == "cert":
        assert identity is not None
        principal = Principal(identity.name, "certificate", identity.fingerprint[:16], view.settings(identity.name))
    else:
        principal = _by_token(view, text, now) if looks_like_jwt(text) else _by_key(view, text, now)
    if mode == "cert_and_key" and identity is not None and principal.id != identity.name:
        what = "API key" if principal.credential == "key" else "token"
        raise _invalid(f"sent the {what} {principal.kid} of client {principal.id}", kind="key_certificate_mismatch")
    _check_principal(view, peer, principal.id, now)
    return principal


def check_open(
    view: AccessView, peer: Peer, identity: PeerIdentity | None, shown: Principal | None, now: datetime
) -> None:
    """Whether a connection that is open when something changes may stay. shown: who its last request was from.

    Raises the Refusal that its next request would meet; but what is due to a date of its credentials is that request's
    matter.
    """
    check_address(view, peer, now)
    if identity is not None:
        administers = peer.listener == ADMIN_LISTENER
        _check_trusted(view, identity, view.admin_issuers if administers else view.issuers)
        # An administrator may have the name of a client.
        if not administers:
            _check_principal(view, peer, identity.name, now)
    if shown is not None:
        if shown.credential == "key":
            _check_key(shown.kid, view.document.keys.get(shown.kid))
        elif shown.credential == "token":
            _check_token(view, shown.kid, shown.id)
        _check_principal(view, peer, shown.id, now)


def check_address(view: AccessView, peer: Peer, now: datetime) -> Rule:
    """The rule of the listener's allowlist that lets the peer in now. Raises Refusal."""
    allowed = view.allowlists.get(peer.listener)
    rule = None if allowed is None else allowed.admitting(peer.address, now)
    if rule is None:
        raise Refusal(
            "address_not_allowed",
            "This address may not come in. Ask the operator to allow it.",
            reason="is not in the allowlist",
        )
    return rule


def check_certificate(view: AccessView, identity: PeerIdentity, issuers: frozenset[str], now: datetime) -> None:
    """What the handshake could not know, or not yet. issuers: the authorities that count here. Raises Refusal."""
    identity.check_valid(now)
    _check_trusted(view, identity, issuers)
    crl = view.crls.get(identity.issuer_key_id)
    if crl is not None and expired(crl, now) and view.configured.config.certificates.crl_expired == "fail_closed":
        raise certificate_refused("cannot be checked: its authority's revocation list has expired")


def _check_trusted(view: AccessView, identity: PeerIdentity, issuers: frozenset[str]) -> None:
    if identity.issuer_key_id not in issuers:
        raise certificate_refused("is of an authority that is no longer trusted")
    if identity.reference in view.revocations.certificates:
        raise certificate_refused("is revoked")
    crl = view.crls.get(identity.issuer_key_id)
    if crl is not None and identity.serial in crl.serials:
        raise certificate_refused("is in its authority's revocation list")


def _by_key(view: AccessView, text: str, now: datetime) -> Principal:
    if not text:
        raise Refusal(
            "missing_api_key",
            "No API key. Send the header 'Authorization: Bearer <API key>'.",
            reason="sent no API key",
        )
    key = ApiKey.parse(text)
    if key is None:
        raise _invalid("sent an API key that is mistyped or cut short")
    record = view.document.keys.get(key.kid) if key.kind == "sk" else None
    if not matches(key, record, view.peppers):
        raise _invalid(_forgery(view, key, record))
    record = _check_key(key.kid, record)
    state = record.state(now)
    if state not in ("active", "retiring"):
        raise _invalid(f"sent the {state} API key {key.kid}", kid=key.kid)
    return Principal(
        record.principal,
        "key",
        record.kid,
        view.settings(record.principal),
        record.works_until if state == "retiring" else None,
    )


def _check_key(kid: str, record: KeyRecord | None) -> KeyRecord:
    if record is None:
        raise _invalid(f"sent the unknown API key {kid}")
    if record.revoked is not None:
        raise _invalid(f"sent the revoked API key {kid}", kid=kid)
    return record


def _by_token(view: AccessView, text: str, now: datetime) -> Principal:
    token = view.configured.jwt.verify(text, now)
    token_id = token.token_id or ""
    _check_token(view, token_id, token.principal)
    return Principal(token.principal, "token", token_id, view.settings(token.principal))


def _check_token(view: AccessView, token_id: str, principal: str) -> None:
    if token_id in view.revocations.tokens:
        raise _invalid(f"sent the revoked token {token_id}")
    if principal not in view.configured.config.principals:
        raise _invalid(f"sent a token for {principal}, who is not in `principals` of appliance.yaml")


def _check_principal(view: AccessView, peer: Peer, name: str, now: datetime) -> None:
    if name in view.revocations.principals:
        raise Refusal(
            "access_revoked",
            "This client's access was revoked. Ask the operator.",
            reason=f"is the revoked client {name}",
        )
    networks = view.configured.networks.get(name)
    if networks is not None and not networks.allows(peer.address, now):
        raise Refusal(
            "address_not_allowed",
            "This client may not come from this address. Ask the operator to allow it.",
            reason=f"is not in principals.{name}.allow",
        )


def bearer_token(authorization: Sequence[str]) -> str:
    """What follows `Bearer`; empty where there is none. Raises Refusal for more than one header, whatever is in it."""
    if len(authorization) > 1:
        raise Refusal(
            "invalid_request",
            "More than one API key. Send one header with one.",
            reason=f"sent {len(authorization)} headers with an API key",
        )
    scheme, _, token = "".join(authorization).strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _forgery(view: AccessView, key: ApiKey, record: KeyRecord | None) -> str:
    if key.kind == "adm":
        return f"sent the admin key {key.kid}, which is never valid here"
    if record is None:
        return f"sent the unknown API key {key.kid}"
    if view.peppers.get(record.pepper) is None:
        return f"sent the API key {key.kid}, whose pepper {record.pepper} was retired"
    return f"sent the API key {key.kid} with a wrong secret"


def _invalid(reason: str, kind: str | None = None, kid: str | None = None) -> Refusal:
    """One sentence for every fault: whoever found a key does not learn that it is a real one."""
    return Refusal("invalid_api_key", INCORRECT_KEY, reason=reason, kind=kind, kid=kid)
