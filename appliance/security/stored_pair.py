"""A certificate and its private key, between the document's bytes and the objects that sign. Pure."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from appliance.errors import ChangeRefused
from appliance.security.certificates import KeyPair
from appliance.security.credentials import StoredPair
from appliance.security.private_keys import key_der, key_from_der


def store_pair(pair: KeyPair) -> StoredPair:
    """The bytes of a pair. The document they go into is encrypted."""
    return StoredPair(certificate=pair.certificate.public_bytes(Encoding.DER), key=key_der(pair.key))


def load_pair(stored: StoredPair) -> KeyPair:
    """What signs. Raises ChangeRefused where the private key is elsewhere."""
    if stored.key is None:
        raise ChangeRefused("conflict", "this authority's private key is not here; have it sign where the key is")
    return KeyPair(certificate_of(stored), key_from_der(stored.key))


def certificate_of(stored: StoredPair) -> x509.Certificate:
    """The certificate alone."""
    return x509.load_der_x509_certificate(stored.certificate)


def certificate_pem(stored: StoredPair) -> bytes:
    """The certificate and its chain as text."""
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in (stored.certificate, *stored.chain)
    )


def private_pem(stored: StoredPair) -> bytes:
    """The private key NOT encrypted: for OpenSSL, through memory. TLS takes keys of any kind, ours are of one."""
    assert stored.key is not None
    key = load_der_private_key(stored.key, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
