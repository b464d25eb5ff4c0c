"""Names inside certificates. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from appliance.security.certificate_facts import extension_of

_COMMON_NAME_CHARS_MAX: Final = 64


def common_name_of(text: str) -> x509.Name:
    """A subject of one common name, cut to what X.509 allows; it informs and never counts."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_COMMON_NAME_CHARS_MAX])])


def general_name(name: str) -> x509.GeneralName:
    """A host name or an address as an alternative name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def server_names_of(certificate: x509.Certificate) -> frozenset[str]:
    """The host names and addresses that a server certificate is for; none without alternative names."""
    san = extension_of(certificate.extensions, x509.SubjectAlternativeName)
    if san is None:
        return frozenset()
    addresses = san.get_values_for_type(x509.IPAddress)
    return frozenset([*san.get_values_for_type(x509.DNSName), *map(str, addresses)])
