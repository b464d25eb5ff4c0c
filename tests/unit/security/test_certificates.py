"""appliance.security.certificates"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.security.certificates import KeyPair, issue_client, issue_server, new_ca, server_names_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URI = "appliance://0123456789abcdef/client/demo"


def usages(pair: KeyPair) -> list[x509.ObjectIdentifier]:
    return list(pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_authority() -> None:
    pair = new_ca("appliance x server CA", NOW)
    constraints = pair.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert pair.certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert pair.certificate.not_valid_after_utc == NOW + timedelta(days=3650)
    assert isinstance(pair.key.curve, ec.SECP256R1)
    pair.certificate.verify_directly_issued_by(pair.certificate)


def test_server_certificate() -> None:
    ca = new_ca("CA", NOW)
    pair = issue_server(ca, ("localhost", "127.0.0.1", "::1"), NOW)
    pair.certificate.verify_directly_issued_by(ca.certificate)
    assert server_names_of(pair.certificate) == {"localhost", "127.0.0.1", "::1"}
    assert usages(pair) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert pair.certificate.not_valid_after_utc == NOW + timedelta(days=397)


def test_client_certificate() -> None:
    ca = new_ca("CA", NOW)
    pair = issue_client(ca, "demo", URI, NOW)
    pair.certificate.verify_directly_issued_by(ca.certificate)
    san = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(san) == [x509.UniformResourceIdentifier(URI)]
    assert usages(pair) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert pair.certificate.not_valid_after_utc == NOW + timedelta(days=365)


def test_serials_are_random_and_no_leaf_outlives_its_authority() -> None:
    ca = new_ca("CA", NOW)
    late = NOW + timedelta(days=3600)
    pairs = [issue_client(ca, "demo", URI, late) for _ in range(3)]
    assert len({pair.certificate.serial_number for pair in pairs}) == 3
    assert pairs[0].certificate.not_valid_after_utc == ca.certificate.not_valid_after_utc


def test_a_long_host_name_is_cut_in_the_common_name_alone() -> None:
    name = ".".join(["a" * 60] * 3)
    assert server_names_of(issue_server(new_ca("CA", NOW), (name,), NOW).certificate) == {name}


def test_printing_shows_no_key() -> None:
    assert "key=" not in repr(new_ca("CA", NOW))
