"""appliance.security.certificate_names"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from cryptography import x509

from appliance.security.certificate_names import common_name_of, general_name, server_names_of
from tests.security.authorities import own_ca


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", x509.DNSName("localhost")),
        ("127.0.0.1", x509.IPAddress(IPv4Address("127.0.0.1"))),
        ("::1", x509.IPAddress(IPv6Address("::1"))),
    ],
)
def test_names_and_addresses(name: str, expected: x509.GeneralName) -> None:
    assert general_name(name) == expected


def test_a_common_name_is_cut() -> None:
    assert common_name_of("a" * 65).rfc4514_string() == "CN=" + "a" * 64


def test_a_certificate_without_names_is_for_no_server() -> None:
    assert server_names_of(own_ca("CA").certificate) == frozenset()
