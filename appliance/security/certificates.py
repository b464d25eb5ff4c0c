"""Issues X.509 certificates: ECDSA P-256, SHA-256, random serials. Pure but for the randomness of keys and serials.

Every certificate starts a day before its issue, because clocks of an intranet differ, and none outlives its issuer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE: Final = timedelta(days=3650)
SERVER_LIFE: Final = timedelta(days=397)
CLIENT_LIFE: Final = timedelta(days=365)
CLOCK_SKEW: Final = timedelta(days=1)
_COMMON_NAME_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and the private key it certifies."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def new_ca(common_name: str, now: datetime) -> KeyPair:
    """A self-signed authority that signs leaves only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common_name)
    builder = (
        _builder(name, name, key, now, now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
    )
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def issue_server(ca: KeyPair, names: Sequence[str], now: datetime) -> KeyPair:
    """A server certificate for host names and addresses; the first one is also its (informational) common name."""
    return _issue(
        ca, names[0], [_general_name(name) for name in names], ExtendedKeyUsageOID.SERVER_AUTH, SERVER_LIFE, now
    )


def issue_client(ca: KeyPair, name: str, uri: str, now: datetime) -> KeyPair:
    """A client certificate. `uri` is the identity, the common name only informs."""
    san = [x509.UniformResourceIdentifier(uri)]
    return _issue(ca, name, san, ExtendedKeyUsageOID.CLIENT_AUTH, CLIENT_LIFE, now)


def server_names_of(certificate: x509.Certificate) -> frozenset[str]:
    """The host names and addresses that a server certificate is for."""
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = san.get_values_for_type(x509.IPAddress)
    return frozenset([*san.get_values_for_type(x509.DNSName), *map(str, addresses)])


def _issue(
    ca: KeyPair,
    common_name: str,
    san: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    life: timedelta,
    now: datetime,
) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    not_after = min(now + life, ca.certificate.not_valid_after_utc)
    builder = (
        _builder(_name(common_name), ca.certificate.subject, key, now, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(san), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    return KeyPair(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_COMMON_NAME_CHARS_MAX])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
