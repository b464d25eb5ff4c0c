"""Certificate revocation lists: read, judged, replaced only by newer ones, and made for our own authority. Pure.

OpenSSL's own check turns an expired or missing list into an outage of every client, and of two lists of the same second
it takes the one it saw first. So lists are verified here, once at import, and asked at every request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.safe_text import safe_text
from appliance.security.certificate_facts import UNREADABLE, extension_of, own_key_id
from appliance.security.certificates import KeyPair
from appliance.security.key_strength import signature_fault

CRL_BYTES_MAX: Final = 16 * 2**20
ENTRIES_MAX: Final = 1_000_000
CLOCK_SKEW: Final = timedelta(days=1)

_PEM_BEGIN: Final = b"-----BEGIN X509 CRL-----"
# DER of what an entry may carry that changes its meaning: a critical extension, the reason removeFromCRL, a foreign
# issuer. Parsing the extensions of every entry takes longer than all the rest, so it is done only where one occurs.
_SUSPECT: Final = re.compile(rb"\x01\x01\xff\x04|\x04\x03\x0a\x01\x08|\x06\x03\x55\x1d\x1d")
_KNOWN_CRITICAL: Final = (x509.CRLNumber, x509.AuthorityKeyIdentifier, x509.IssuingDistributionPoint)


@dataclass(frozen=True, slots=True)
class Crl:
    """A verified list of one authority. issuer_key_id: that authority's key, hex. Its numbers only rise."""

    issuer_key_id: str
    number: int
    this_update: datetime
    next_update: datetime
    serials: frozenset[int] = field(repr=False)


def parse_crl(pem_or_der: bytes, issuers: Sequence[x509.Certificate], now: datetime) -> Crl:
    """A list that one of the trusted `issuers` signed. Raises ValueError with a sentence.

    An expired list is read: what that means is the policy's business. Blocks for 4 to 10 µs an entry, so up to seconds:
    call it in a thread.
    """
    if len(pem_or_der) > CRL_BYTES_MAX:
        raise ValueError(f"the revocation list is larger than {CRL_BYTES_MAX} bytes")
    crl, name, extensions = _load(pem_or_der)
    issuer = _verified_issuer(crl, name, issuers)
    if (fault := signature_fault(crl)) is not None:
        raise ValueError(f"the revocation list {fault}")
    _check_scope(extensions)
    this_update, next_update = _dates(crl, now)
    return Crl(own_key_id(issuer), _number(extensions), this_update, next_update, _serials(crl))


def accept(current: Crl | None, new: Crl) -> Crl:
    """The list that counts from now on. Raises ValueError where `new` would take a revocation back or fakes its age.

    A list that is accepted may leave serials out: its authority drops expired certificates.
    """
    if current is None or current == new:
        return new
    if new.issuer_key_id != current.issuer_key_id:
        raise ValueError("the revocation list is of another authority than the one it would replace")
    if new.number < current.number:
        raise ValueError(f"the revocation list has number {new.number}; number {current.number} is in force already")
    if new.number == current.number:
        raise ValueError(
            f"the revocation list has number {new.number} like the one in force, but says something else; "
            "have the CA issue one with a higher number"
        )
    if new.this_update < current.this_update:
        raise ValueError(
            f"the revocation list was issued on {new.this_update:%Y-%m-%d %H:%M:%S} UTC, before the one in force "
            f"({current.this_update:%Y-%m-%d %H:%M:%S} UTC)"
        )
    return new


def expired(crl: Crl, now: datetime) -> bool:
    """Is the next list overdue?"""
    return now > crl.next_update


def make_crl(ca: KeyPair, revoked: Mapping[int, datetime], number: int, now: datetime, next_update: datetime) -> bytes:
    """Our own authority's list (PEM) of serials and when each was revoked. About 15 µs an entry."""
    entries = [
        x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        for serial, when in sorted(revoked.items())
    ]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    # The builder's own method copies the whole list for every entry.
    builder = x509.CertificateRevocationListBuilder(ca.certificate.subject, now, next_update, [], entries)
    crl = (
        builder.add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    return crl.public_bytes(Encoding.PEM)


def _load(data: bytes) -> tuple[x509.CertificateRevocationList, x509.Name, x509.Extensions]:
    lists = data.count(_PEM_BEGIN)
    if lists > 1:
        raise ValueError(f"the file holds {lists} revocation lists; import them one by one")
    try:
        crl = x509.load_pem_x509_crl(data) if lists else x509.load_der_x509_crl(data)
        return crl, crl.issuer, crl.extensions
    except (*UNREADABLE, x509.InvalidVersion) as error:
        raise ValueError("the revocation list cannot be read; it must be PEM (BEGIN X509 CRL) or DER") from error


def _verified_issuer(
    crl: x509.CertificateRevocationList, name: x509.Name, issuers: Sequence[x509.Certificate]
) -> x509.Certificate:
    who = safe_text(name.rfc4514_string())
    named = [issuer for issuer in issuers if issuer.subject == name]
    if not named:
        raise ValueError(f"the revocation list is of {who}, which is not trusted here")
    # A renewed authority has the name of the one before.
    issuer = next((issuer for issuer in named if _signed(issuer, crl)), None)
    if issuer is None:
        raise ValueError(f"the revocation list names {who} but was not signed by it")
    if not _may_sign(issuer):
        raise ValueError(f"{who} may not sign revocation lists (keyUsage without cRLSign)")
    return issuer


def _signed(issuer: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _may_sign(issuer: x509.Certificate) -> bool:
    usage = extension_of(issuer.extensions, x509.KeyUsage)
    return usage is None or usage.crl_sign


def _check_scope(extensions: x509.Extensions) -> None:
    """A list that is silent about some certificates would make them good."""
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            raise ValueError("the revocation list is a delta; import the complete one")
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl:
                raise ValueError("the revocation list is indirect (of several issuers); import one of each issuer")
            if value.only_contains_ca_certs or value.only_contains_attribute_certs or value.only_some_reasons:
                raise ValueError("the revocation list is not about all clients or not about all reasons")
            if value.full_name or value.relative_name:
                raise ValueError("the revocation list is one part of several (issuing distribution point)")
        elif extension.critical and not isinstance(value, _KNOWN_CRITICAL):
            raise ValueError(f"the revocation list has an unknown critical extension {extension.oid.dotted_string}")


def _dates(crl: x509.CertificateRevocationList, now: datetime) -> tuple[datetime, datetime]:
    this_update, next_update = crl.last_update_utc, crl.next_update_utc
    if next_update is None or next_update <= this_update:
        raise ValueError("the revocation list does not say when the next one comes (nextUpdate)")
    if this_update > now + CLOCK_SKEW:
        raise ValueError(
            f"the revocation list is dated {this_update:%Y-%m-%d %H:%M} UTC, in the future; compare the clocks"
        )
    return this_update, next_update


def _number(extensions: x509.Extensions) -> int:
    number = extension_of(extensions, x509.CRLNumber)
    if number is None:
        raise ValueError(
            "the revocation list has no number, so it cannot be told from an older one; have the CA number its lists"
        )
    return number.crl_number


def _serials(crl: x509.CertificateRevocationList) -> frozenset[int]:
    try:
        if len(crl) > ENTRIES_MAX:
            raise ValueError(f"the revocation list has {len(crl)} entries, more than {ENTRIES_MAX}")
        if _SUSPECT.search(crl.tbs_certlist_bytes):
            for entry in crl:
                _check_entry(entry)
        return frozenset(entry.serial_number for entry in crl)
    except (TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError("the revocation list has an entry that cannot be read") from error


def _check_entry(entry: x509.RevokedCertificate) -> None:
    for extension in entry.extensions:
        value = extension.value
        where = f"the revocation list's entry {entry.serial_number:x}"
        if isinstance(value, x509.CertificateIssuer):
            raise ValueError(f"{where} names another issuer; import one list of each issuer")
        if isinstance(value, x509.CRLReason):
            if value.reason == x509.ReasonFlags.remove_from_crl:
                raise ValueError(
                    f"{where} takes a revocation back (removeFromCRL), as only deltas do; import the complete list"
                )
        elif extension.critical:
            raise ValueError(f"{where} has an unknown critical extension {extension.oid.dotted_string}")
