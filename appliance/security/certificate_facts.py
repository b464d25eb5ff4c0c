"""What a certificate is known by, and what an operator reads about it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.safe_text import safe_text

CertificateKind = Literal["authority", "server", "client", "admin", "other"]

# What the library raises for a part of a certificate that it cannot read: it parses names and extensions when asked.
UNREADABLE: Final = (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_NAMES_MAX: Final = 256

E = TypeVar("E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate for a listing; texts are safe to print.

    serial: hex. fingerprint: SHA-256 of the DER, hex. names: alternative names, URIs among them. kind: by purpose.
    """

    kind: CertificateKind
    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(cls, certificate: x509.Certificate) -> CertificateFacts:
        """Of a certificate from anywhere; one whose extensions cannot be read is of kind `other` and has no names."""
        try:
            extensions = certificate.extensions
        except UNREADABLE:
            extensions = x509.Extensions([])
        names = _names(extensions)
        return cls(
            kind=_kind(extensions, names),
            subject=_text(lambda: certificate.subject),
            issuer=_text(lambda: certificate.issuer),
            serial=f"{certificate.serial_number:x}",
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            names=names,
            fingerprint=fingerprint(certificate),
        )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def issuer_key_id(certificate: x509.Certificate) -> str:
    """The key that signed a certificate, as it names it (authority key identifier, hex); "" where it does not.

    Equal to `own_key_id` of the issuer: OpenSSL builds no chain in which they differ.
    """
    identifier = extension_of(certificate.extensions, x509.AuthorityKeyIdentifier)
    return "" if identifier is None or identifier.key_identifier is None else identifier.key_identifier.hex()


def own_key_id(authority: x509.Certificate) -> str:
    """The key of an authority (subject key identifier, hex); where it names none, as RFC 5280 4.2.1.2 (1) makes it."""
    identifier = extension_of(authority.extensions, x509.SubjectKeyIdentifier)
    return (identifier or x509.SubjectKeyIdentifier.from_public_key(authority.public_key())).digest.hex()


def extension_of(extensions: x509.Extensions, kind: type[E]) -> E | None:
    """The one extension of a kind, or None."""
    return next((extension.value for extension in extensions if isinstance(extension.value, kind)), None)


def _text(read: Callable[[], x509.Name]) -> str:
    try:
        return safe_text(read().rfc4514_string())
    except UNREADABLE:
        return "(unreadable)"


def _names(extensions: x509.Extensions) -> tuple[str, ...]:
    san = extension_of(extensions, x509.SubjectAlternativeName) or ()
    texts = (
        name.value.rfc4514_string() if isinstance(name, x509.DirectoryName) else str(name.value)
        for name in san
        if not isinstance(name, x509.OtherName | x509.RegisteredID)
    )
    return tuple(safe_text(text) for _, text in zip(range(_NAMES_MAX), texts, strict=False))


def _kind(extensions: x509.Extensions, names: tuple[str, ...]) -> CertificateKind:
    constraints = extension_of(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        return "authority"
    purposes = list(extension_of(extensions, x509.ExtendedKeyUsage) or ())
    if ExtendedKeyUsageOID.SERVER_AUTH in purposes:
        return "server"
    if ExtendedKeyUsageOID.CLIENT_AUTH in purposes:
        return "admin" if any(_is_admin(name) for name in names) else "client"
    return "other"


def _is_admin(name: str) -> bool:
    scheme, _, rest = name.partition("://")
    return scheme == "appliance" and rest.partition("/")[2].startswith("admin/")
