"""Who a client certificate says its holder is. Pure.

The identity is one URI in the certificate's subject alternative name: `appliance://<appliance-id>/client/<name>`, or
`…/admin/<name>` of an administrator; the common name never counts. OpenSSL has checked chain, signature and dates in
the handshake, but it lets pass what is checked here: no extended key usage, several URIs, certificates of 60 kB.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.access_config import PRINCIPAL_NAME
from appliance.safe_text import safe_text
from appliance.security.allowlist import Address
from appliance.security.certificate_facts import UNREADABLE
from appliance.security.refusal import Refusal

CERTIFICATE_BYTES_MAX: Final = 8192
CLIENT_NAME: Final = re.compile(PRINCIPAL_NAME)

IdentityKind = Literal["client", "admin"]
_KIND_WORDS: Final[Mapping[IdentityKind, str]] = {"client": "client", "admin": "administrator"}


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of one connection. certificate: DER, as verified in the handshake. listener: where it came in.

    since: when it came.
    """

    address: Address
    certificate: bytes | None = field(repr=False)
    listener: str
    since: datetime


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What an acceptable client certificate says. `name` is the principal's, or the administrator's.

    fingerprint: SHA-256 of the DER, hex. issuer_key_id: the key that signed it, hex; "" where it names none. Revoke by
    issuer_key_id and serial: the holder of an ECDSA certificate can make a valid one with another fingerprint of it.
    """

    name: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    serial: int
    issuer_key_id: str

    @property
    def reference(self) -> str:
        """What revocations name: issuer key and serial.

        Not the fingerprint, because the holder of a certificate can change its ECDSA signature into another valid one.
        """
        return certificate_reference(self.issuer_key_id, self.serial)

    def check_valid(self, now: datetime) -> None:
        """Raises Refusal outside the certificate's dates: a connection may live longer than its certificate."""
        if now > self.not_after:
            raise certificate_refused(f"expired on {self.not_after:%Y-%m-%d %H:%M} UTC")
        if now < self.not_before:
            raise certificate_refused(f"is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC")


def certificate_reference(issuer_key_id: str, serial: int) -> str:
    """One certificate, whatever its bytes."""
    return f"{issuer_key_id}:{serial:x}"


def client_uri(appliance_id: str, name: str) -> str:
    """The identity of client `name` of this appliance."""
    return _uri(appliance_id, "client", name)


def admin_uri(appliance_id: str, name: str) -> str:
    """The identity of administrator `name` of this appliance."""
    return _uri(appliance_id, "admin", name)


def peer_identity(certificate: bytes | None, appliance_id: str, kind: IdentityKind = "client") -> PeerIdentity:
    """The identity in a DER certificate that the handshake verified. Raises Refusal; about 20 µs."""
    if certificate is None:
        raise certificate_refused("is missing")
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise certificate_refused(f"is larger than {CERTIFICATE_BYTES_MAX} bytes")
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        extensions = parsed.extensions
    except (*UNREADABLE, x509.InvalidVersion) as error:
        raise certificate_refused("cannot be read") from error
    # One pass by exact type: the classes are abstract ones, for which a search or isinstance takes as long as parsing.
    usage, alternatives, issuer_key = None, None, None
    for extension in extensions:
        value = extension.value
        if type(value) is x509.ExtendedKeyUsage:
            usage = value
        elif type(value) is x509.SubjectAlternativeName:
            alternatives = value
        elif type(value) is x509.AuthorityKeyIdentifier:
            issuer_key = value.key_identifier
    if usage is None or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise certificate_refused("is not for clients (no extended key usage clientAuth)")
    return PeerIdentity(
        name=_name_in(_single_uri(alternatives), appliance_id, kind),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        fingerprint=hashlib.sha256(certificate).hexdigest(),
        serial=parsed.serial_number,
        issuer_key_id=issuer_key.hex() if issuer_key else "",
    )


def _uri(appliance_id: str, kind: IdentityKind, name: str) -> str:
    return f"appliance://{appliance_id}/{kind}/{name}"


def _single_uri(alternatives: x509.SubjectAlternativeName | None) -> str:
    if alternatives is None:
        raise certificate_refused("names nobody (no subject alternative name)")
    uris = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise certificate_refused(f"has {len(uris)} URI names where exactly one is the identity")
    return uris[0]


def _name_in(uri: str, appliance_id: str, kind: IdentityKind) -> str:
    prefix = _uri(appliance_id, kind, "")
    name = uri.removeprefix(prefix)
    if name == uri or not CLIENT_NAME.fullmatch(name):
        raise certificate_refused(
            f"names {safe_text(uri)}, which is no {_KIND_WORDS[kind]} of this appliance ({prefix}…)"
        )
    return name


def certificate_refused(fault: str) -> Refusal:
    """fault: what is wrong with the certificate, completing "The client certificate …"."""
    return Refusal(
        "certificate_rejected",
        f"The client certificate {fault}. Ask the operator for a new one.",
        reason=f"was refused: its certificate {fault}",
    )
