"""Who a client certificate says its holder is. Pure.

The identity is one URI in the certificate's subject alternative name, `appliance://<appliance-id>/client/<name>`; the
common name never counts. OpenSSL has checked chain, signature and dates in the handshake, but it lets pass what is
checked here: no extended key usage, several URIs, certificates of 60 kB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.access_config import PRINCIPAL_NAME
from appliance.safe_text import safe_text
from appliance.security.allowlist import Address
from appliance.security.refusal import Refusal

CERTIFICATE_BYTES_MAX: Final = 8192
CLIENT_NAME: Final = re.compile(PRINCIPAL_NAME)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of one connection. certificate: DER, as verified in the handshake."""

    address: Address
    certificate: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What an acceptable client certificate says. `name` is the principal's."""

    name: str
    not_before: datetime
    not_after: datetime

    def check_valid(self, now: datetime) -> None:
        """Raises Refusal outside the certificate's dates: a connection may live longer than its certificate."""
        if now > self.not_after:
            raise _refusal(f"expired on {self.not_after:%Y-%m-%d %H:%M} UTC")
        if now < self.not_before:
            raise _refusal(f"is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC")


def client_uri(appliance_id: str, name: str) -> str:
    """The identity of client `name` of this appliance."""
    return f"appliance://{appliance_id}/client/{name}"


def peer_identity(certificate: bytes | None, appliance_id: str) -> PeerIdentity:
    """The identity in a DER certificate that the handshake verified. Raises Refusal; about 10 µs."""
    if certificate is None:
        raise _refusal("is missing")
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise _refusal(f"is larger than {CERTIFICATE_BYTES_MAX} bytes")
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        extensions = parsed.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _refusal("cannot be read") from error
    if not _is_for_clients(extensions):
        raise _refusal("is not for clients (no extended key usage clientAuth)")
    return PeerIdentity(
        name=_name_in(_single_uri(extensions), appliance_id),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
    )


def _is_for_clients(extensions: x509.Extensions) -> bool:
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def _single_uri(extensions: x509.Extensions) -> str:
    try:
        san = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise _refusal("names nobody (no subject alternative name)") from None
    uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _refusal(f"has {len(uris)} URI names where exactly one is the identity")
    return uris[0]


def _name_in(uri: str, appliance_id: str) -> str:
    prefix = client_uri(appliance_id, "")
    name = uri.removeprefix(prefix)
    if name == uri or not CLIENT_NAME.fullmatch(name):
        raise _refusal(f"names {safe_text(uri)}, which is no client of this appliance ({prefix}…)")
    return name


def _refusal(fault: str) -> Refusal:
    return Refusal(
        "certificate_rejected",
        f"The client certificate {fault}.",
        reason=f"was refused: its certificate {fault}",
    )
