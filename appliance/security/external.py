"""A certificate authority elsewhere: whom we trust, and whether a server certificate it made for us is right. Pure.

What is checked here is what OpenSSL lets pass or tells too late, in an operator's words. OpenSSL's own judgement of the
same files comes with the self-test of the TLS context.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.safe_text import safe_text
from appliance.security.certificate_facts import UNREADABLE, extension_of, fingerprint
from appliance.security.certificate_names import server_names_of
from appliance.security.key_strength import AUTHORITY_CURVES, CURVES, key_fault, signature_fault
from appliance.security.private_keys import PrivateKey

FILE_BYTES_MAX: Final = 1024 * 1024
AUTHORITIES_MAX: Final = 64
CHAIN_MAX: Final = 8

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_BEGIN: Final = b"-----BEGIN "


@dataclass(frozen=True, slots=True)
class Trust:
    """The authorities of an external CA, each with its whole chain up to a self-signed root.

    warnings: sentences about authorities that were left out because they expired, or are not valid yet.
    """

    authorities: tuple[x509.Certificate, ...]
    warnings: tuple[str, ...]

    @property
    def pem(self) -> bytes:
        """What a TLS context loads."""
        return b"".join(authority.public_bytes(Encoding.PEM) for authority in self.authorities)


def parse_trust(files: Mapping[str, bytes], now: datetime) -> Trust:
    """All PEM files of the trust bundle together, by their names. Raises ValueError with a sentence: all or nothing."""
    found: dict[str, x509.Certificate] = {}
    warnings: dict[str, None] = {}
    for file, pem in files.items():
        for number, authority in enumerate(_certificates(file, pem), 1):
            who = f"{file}: certificate {number} ({_subject(authority)})"
            if (fault := _authority_fault(authority)) is not None:
                raise ValueError(f"{who} {fault}")
            if authority.not_valid_after_utc < now:
                warnings[f"{who} expired on {authority.not_valid_after_utc:%Y-%m-%d} and is left out"] = None
                continue
            if authority.not_valid_before_utc > now:
                begin = authority.not_valid_before_utc
                warnings[f"{who} is not valid before {begin:%Y-%m-%d}; compare the clocks"] = None
            found[fingerprint(authority)] = authority
    authorities = tuple(found.values())
    if len(authorities) > AUTHORITIES_MAX:
        raise ValueError(f"{', '.join(files)}: {len(authorities)} authorities are more than {AUTHORITIES_MAX}")
    if not authorities:
        raise ValueError("; ".join([f"{', '.join(files)}: no authority is left to trust", *warnings]))
    for authority in authorities:
        _check_root(authority, authorities)
    return Trust(authorities, tuple(warnings))


def parse_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """A server certificate followed by its intermediates. Raises ValueError with a sentence."""
    chain = tuple(_certificates("the chain", pem))
    if len(chain) > CHAIN_MAX:
        raise ValueError(f"the chain has {len(chain)} certificates, more than {CHAIN_MAX}")
    return chain


def check_imported_server_certificate(
    chain_pem: bytes, key: PrivateKey, names: Sequence[str], trust: Trust, now: datetime
) -> tuple[str, ...]:
    """Everything that is wrong with a server certificate signed elsewhere, a sentence each; empty where it is right.

    key: the one its request was made with. names: host names and addresses that it must cover. trust: what clients
    verify it with; intermediates must be in the chain, because clients have the root alone.
    """
    try:
        leaf, *intermediates = parse_chain(chain_pem)
        extensions = leaf.extensions
    except UNREADABLE as error:
        return (f"The server certificate cannot be used: {error}.",)
    faults = [
        _key_mismatch(leaf, key),
        _weakness(leaf, CURVES),
        _wrong_purpose(extensions),
        _uncovered(leaf, names),
        _outside_dates(leaf, now),
        _chain_fault(leaf, intermediates, trust, now),
    ]
    return tuple(f"The server certificate {fault}." for fault in faults if fault is not None)


def path_to_root(
    leaf: x509.Certificate, intermediates: Sequence[x509.Certificate], trust: Trust
) -> tuple[x509.Certificate, ...]:
    """The issuers of a certificate that was checked, nearest first, a trusted root last."""
    roots = _roots(trust)
    path: list[x509.Certificate] = []
    while (below := path[-1] if path else leaf) not in roots:
        issuer = _issuer_among(below, [*roots, *intermediates])
        assert issuer is not None and len(path) < CHAIN_MAX, "it was checked"
        path.append(issuer)
    return tuple(path)


def _certificates(file: str, pem: bytes) -> Iterator[x509.Certificate]:
    """One by one, so that a damaged one is named; a file cut short is not taken for a shorter one."""
    if len(pem) > FILE_BYTES_MAX:
        raise ValueError(f"{file} is larger than {FILE_BYTES_MAX} bytes")
    blocks = list(_BLOCK.finditer(pem))
    if not blocks and _BEGIN not in pem:
        raise ValueError(f"{file} holds no certificate in PEM form")
    if len(blocks) != pem.count(_BEGIN):
        raise ValueError(f"{file} is cut short or damaged: a BEGIN line has no END line of its kind")
    for number, block in enumerate(blocks, 1):
        if b"PRIVATE KEY" in block[1]:
            raise ValueError(f"{file} holds a private key; remove it, only certificates belong there")
        if block[1] != b"CERTIFICATE":
            raise ValueError(f"{file} holds {block[1].decode()}; only CERTIFICATE belongs there")
        try:
            certificate = x509.load_pem_x509_certificate(block[0])
            _ = certificate.subject, certificate.issuer
        except (*UNREADABLE, x509.InvalidVersion) as error:
            raise ValueError(f"{file}: certificate {number} cannot be read") from error
        yield certificate


def _authority_fault(certificate: x509.Certificate) -> str | None:
    """Why a certificate cannot be trusted to sign others, dates aside; completes "<certificate> …"."""
    try:
        extensions = certificate.extensions
    except UNREADABLE:
        return "has extensions that cannot be read"
    constraints = extension_of(extensions, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return "is no authority (no basicConstraints CA:TRUE); trust the CA that issued it"
    usage = extension_of(extensions, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return "may not sign certificates (keyUsage without keyCertSign)"
    if extension_of(extensions, x509.SubjectKeyIdentifier) is None:
        return "has no subject key identifier, by which its certificates and revocation lists are found"
    return _weakness(certificate, AUTHORITY_CURVES)


def _check_root(authority: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    """OpenSSL trusts an intermediate only together with what it hangs from."""
    if _issuer_among(authority, authorities) is None:
        raise ValueError(
            f"the issuer of {_subject(authority)} is not among the trusted authorities or did not sign it: "
            f"add {safe_text(authority.issuer.rfc4514_string())}, up to the self-signed root"
        )


def _issuer_among(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> x509.Certificate | None:
    return next((authority for authority in authorities if _signed(authority, certificate)), None)


def _signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _weakness(certificate: x509.Certificate, curves: frozenset[str]) -> str | None:
    try:
        key: object = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    return key_fault(key, curves) or signature_fault(certificate)


def _key_mismatch(leaf: x509.Certificate, key: PrivateKey) -> str | None:
    try:
        if leaf.public_key() == key.public_key():
            return None
    except (ValueError, UnsupportedAlgorithm):
        pass
    return "does not belong to the private key; import the certificate of the latest request, the server's own first"


def _wrong_purpose(extensions: x509.Extensions) -> str | None:
    constraints = extension_of(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        return "is an authority's; the server's own must come first"
    purposes = extension_of(extensions, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        return "is not for servers (no extended key usage serverAuth)"
    usage = extension_of(extensions, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return "may not be used with TLS 1.3 (keyUsage without digitalSignature)"
    return None


def _uncovered(leaf: x509.Certificate, names: Sequence[str]) -> str | None:
    covered = {name.lower() for name in server_names_of(leaf)}
    missing = [name for name in names if not _covers(covered, name)]
    return f"does not name {', '.join(missing)}" if missing else None


def _covers(covered: set[str], name: str) -> bool:
    try:
        return str(ipaddress.ip_address(name)) in covered
    except ValueError:
        host = name.lower()
    # A wildcard stands for exactly one label (RFC 6125).
    label, _, parent = host.partition(".")
    return host in covered or (label != "*" and bool(parent) and f"*.{parent}" in covered)


def _outside_dates(certificate: x509.Certificate, now: datetime) -> str | None:
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}; compare the clocks"
    return None


def _roots(trust: Trust) -> list[x509.Certificate]:
    return [authority for authority in trust.authorities if authority.subject == authority.issuer]


def _chain_fault(
    leaf: x509.Certificate, intermediates: Sequence[x509.Certificate], trust: Trust, now: datetime
) -> str | None:
    """Follows the issuers from the leaf to a trusted root."""
    roots = _roots(trust)
    below = leaf
    for length in range(CHAIN_MAX):
        issuer = _issuer_among(below, [*roots, *intermediates])
        if issuer is None:
            missing = safe_text(below.issuer.rfc4514_string())
            return f"has no chain to a trusted root: {missing} is missing in the chain, or did not sign it"
        who = _subject(issuer)
        if (fault := _authority_fault(issuer) or _outside_dates(issuer, now)) is not None:
            return f"has a chain that is not valid: {who} {fault}"
        path_length = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if path_length is not None and path_length < length:
            return f"has a chain that is too long: {who} allows {path_length} intermediates below it"
        if issuer in roots:
            return None
        below = issuer
    return f"has a chain of more than {CHAIN_MAX} certificates"


def _subject(certificate: x509.Certificate) -> str:
    return safe_text(certificate.subject.rfc4514_string())
