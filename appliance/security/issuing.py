"""Signing with the authorities of a document. Pure but for the randomness of keys and serial numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security.certificate_facts import fingerprint, issuer_key_id, own_key_id
from appliance.security.certificates import issue_client, issue_from_csr, issue_server, new_ca
from appliance.security.credentials import AuthorityName, Credentials, Issued, StoredPair
from appliance.security.identity import admin_uri, client_uri
from appliance.security.key_changes import FORGET_AFTER
from appliance.security.private_keys import key_pem
from appliance.security.profiles import AuthorityProfile, LeafProfile, Profiles
from appliance.security.stored_pair import certificate_of, certificate_pem, load_pair, store_pair

ISSUED_MAX: Final = 50_000
LeafKind = Literal["client", "admin"]


@dataclass(frozen=True, slots=True)
class SignedLeaf:
    """A certificate for a client or an administrator, as text. key: None where it was made from a signing request."""

    certificate: bytes
    key: bytes | None = field(repr=False)


def make_authority(profiles: Profiles, name: AuthorityName, appliance_id: str, now: datetime) -> StoredPair:
    """A new self-signed authority."""
    return store_pair(new_ca(_authority_profile(profiles, name), f"appliance {appliance_id} {name} CA", now))


def make_server(document: Credentials, profiles: Profiles, names: Sequence[str], now: datetime) -> StoredPair:
    """A new server certificate of the server authority that issues now. Raises ChangeRefused."""
    authority = load_pair(document.authorities["server"].issuing)
    try:
        return store_pair(issue_server(authority, names, profiles.server, now))
    except ValueError as error:
        raise ChangeRefused("conflict", str(error)) from error


def sign_leaf(
    document: Credentials,
    profiles: Profiles,
    kind: LeafKind,
    name: str,
    now: datetime,
    *,
    csr: bytes | None = None,
) -> tuple[Credentials, SignedLeaf]:
    """A certificate for `name`, with a new key or for the one in a signing request, and the document that lists it.

    Raises ChangeRefused for a bad request, an authority whose key is elsewhere, and at ISSUED_MAX.
    """
    if len(document.issued) >= ISSUED_MAX:
        raise ChangeRefused("conflict", f"{ISSUED_MAX} certificates are listed; forget expired ones first")
    authority = load_pair(document.authorities[kind].issuing)
    uri = (client_uri if kind == "client" else admin_uri)(document.appliance_id, name)
    profile = profiles.client if kind == "client" else profiles.admin
    try:
        if csr is None:
            pair = issue_client(authority, name, uri, profile, now)
            certificate, key = pair.certificate, key_pem(pair.key)
        else:
            certificate, key = issue_from_csr(authority, csr, uri, profile, now), None
    except ValueError as error:
        raise ChangeRefused("invalid", str(error)) from error
    issued = Issued(
        kind=kind,
        name=name,
        serial=f"{certificate.serial_number:x}",
        issuer_key_id=issuer_key_id(certificate),
        fingerprint=fingerprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )
    leaf = SignedLeaf(certificate.public_bytes(Encoding.PEM), key)
    return replace(document, issued=(*document.issued, issued)), leaf


def trust_pem(document: Credentials, name: AuthorityName) -> bytes:
    """The certificates that are trusted as this authority, as text; two while it rotates."""
    return b"".join(certificate_pem(pair) for pair in document.authorities[name].trusted)


def server_trust_pem(document: Credentials) -> bytes:
    """What a client verifies this server with: our authorities, and the chain of an imported certificate."""
    chain = document.server.active.chain
    imported = StoredPair(certificate=chain[-1], key=None) if chain else None
    return trust_pem(document, "server") + (b"" if imported is None else certificate_pem(imported))


def due_for_renewal(stored: StoredPair, profile: LeafProfile | AuthorityProfile) -> datetime:
    """When a certificate is to be issued anew."""
    return profile.renewal(x509.load_der_x509_certificate(stored.certificate))


def forget_issued(document: Credentials, now: datetime) -> Credentials:
    """Drops certificates that ended FORGET_AFTER ago from the list.

    Not at once, for a clock may be wrong today. Revoked ones, and their revocations, stay as long as their authority:
    nobody gets in with them when the clock is right again.
    """
    authorities = {
        own_key_id(certificate_of(pair)) for authority in document.authorities.values() for pair in authority.trusted
    }
    revoked = {known.value for known in document.revocations if known.kind == "certificate"}
    gone = {
        issued.reference
        for issued in document.issued
        if now - issued.not_after > FORGET_AFTER
        and not (issued.reference in revoked and issued.issuer_key_id in authorities)
    }
    if not gone:
        return document
    return replace(
        document,
        issued=tuple(issued for issued in document.issued if issued.reference not in gone),
        revocations=tuple(
            known for known in document.revocations if not (known.kind == "certificate" and known.value in gone)
        ),
    )


def _authority_profile(profiles: Profiles, name: AuthorityName) -> AuthorityProfile:
    return {"server": profiles.server_ca, "client": profiles.client_ca, "admin": profiles.admin_ca}[name]
