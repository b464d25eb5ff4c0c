"""Issues X.509 certificates by a profile: SHA-256, random serials. Pure but for the randomness of keys and serials.

Every certificate starts a while before its issue, because clocks of an intranet differ, and none outlives its issuer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.security.certificate_names import common_name_of, general_name
from appliance.security.private_keys import PrivateKey, new_key
from appliance.security.profiles import AuthorityProfile, ExtendedUsage, LeafProfile
from appliance.security.signing_request import requested_key

_PURPOSES: Final[Mapping[ExtendedUsage, x509.ObjectIdentifier]] = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and the private key it certifies."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)


def new_ca(profile: AuthorityProfile, common_name: str, now: datetime) -> KeyPair:
    """A self-signed authority."""
    key = new_key()
    name = common_name_of(common_name)
    builder = (
        _builder(name, name, key.public_key(), profile, now)
        .not_valid_after(now + profile.life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=profile.path_length), critical=True)
    )
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def issue_server(ca: KeyPair, names: Sequence[str], profile: LeafProfile, now: datetime) -> KeyPair:
    """A server certificate for host names and addresses; the first one is also its (informational) common name.

    Raises ValueError where the authority has expired; so does everything that issues.
    """
    key = new_key()
    san = [general_name(name) for name in names]
    return KeyPair(_issue(ca, names[0], san, key.public_key(), profile, now), key)


def issue_client(ca: KeyPair, name: str, uri: str, profile: LeafProfile, now: datetime) -> KeyPair:
    """A certificate of a client or an administrator. `uri` is the identity, the common name only informs."""
    key = new_key()
    return KeyPair(_issue(ca, name, [x509.UniformResourceIdentifier(uri)], key.public_key(), profile, now), key)


def issue_from_csr(ca: KeyPair, csr_pem: bytes, uri: str, profile: LeafProfile, now: datetime) -> x509.Certificate:
    """A certificate for a key that never leaves its owner. `uri` is the identity, whatever the request asks for.

    Raises ValueError with a sentence where the request is damaged, is not signed by its own key, or its key is weak.
    """
    san = [x509.UniformResourceIdentifier(uri)]
    return _issue(ca, uri.rpartition("/")[2], san, requested_key(csr_pem), profile, now)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as text."""
    return certificate.public_bytes(Encoding.PEM)


def _issue(
    ca: KeyPair,
    common_name: str,
    san: Sequence[x509.GeneralName],
    key: CertificatePublicKeyTypes,
    profile: LeafProfile,
    now: datetime,
) -> x509.Certificate:
    ca_end = ca.certificate.not_valid_after_utc
    if now >= ca_end:
        raise ValueError(f"the authority expired on {ca_end:%Y-%m-%d}; nothing can be issued before it is rotated")
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(common_name_of(common_name), ca.certificate.subject, key, profile, now)
        .not_valid_after(min(now + profile.life, ca_end))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_PURPOSES[profile.purpose]]), critical=False)
        .add_extension(x509.SubjectAlternativeName(san), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    return builder.sign(ca.key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    profile: AuthorityProfile | LeafProfile,
    now: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - profile.clock_skew)
        .add_extension(_key_usage(profile.key_usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digitalSignature" in usages,
        key_cert_sign="keyCertSign" in usages,
        crl_sign="cRLSign" in usages,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
