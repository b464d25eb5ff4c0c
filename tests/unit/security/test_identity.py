"""appliance.security.identity"""

from __future__ import annotations

import contextlib
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.certificate_facts import own_key_id
from appliance.security.certificates import issue_client
from appliance.security.identity import IdentityKind, PeerIdentity, admin_uri, client_uri, peer_identity
from appliance.security.refusal import Refusal
from tests.security.authorities import PROFILES, own_ca
from tests.security.forgery import der, forge

ID = "0123456789abcdef"
URI = f"appliance://{ID}/client/demo"
CA = own_ca("client CA")
ISSUED = issue_client(CA, "demo", URI, PROFILES.client, datetime.now(UTC))


def refusal_of(certificate: bytes | None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        peer_identity(certificate, ID)
    assert caught.value.code == "certificate_rejected"
    assert caught.value.reason.startswith("was refused: its certificate ")
    return caught.value


def test_the_uri_is_the_identity_and_the_common_name_is_not() -> None:
    pair = forge(CA, [URI], common_name="admin")
    identity = peer_identity(der(pair), ID)
    assert identity.name == "demo"
    identity.check_valid(datetime.now(UTC))


def test_what_revocation_lists_are_about() -> None:
    identity = peer_identity(der(ISSUED), ID)
    assert identity.fingerprint == hashlib.sha256(der(ISSUED)).hexdigest()
    assert identity.serial == ISSUED.certificate.serial_number
    assert identity.issuer_key_id == own_key_id(CA.certificate)
    assert peer_identity(der(forge(CA, [URI], names_issuer=False)), ID).issuer_key_id == ""


def test_the_fingerprint_alone_does_not_stop_a_revoked_certificate() -> None:
    """Whoever holds a certificate can make another valid one of it: where (r, s) is a signature, (r, n - s) is one."""
    certificate = ISSUED.certificate
    r, s = decode_dss_signature(certificate.signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin_signature = encode_dss_signature(r, order - s)
    body = certificate.tbs_certificate_bytes + ECDSA_WITH_SHA256 + bit_string(twin_signature)
    twin = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    x509.load_der_x509_certificate(twin).verify_directly_issued_by(CA.certificate)
    one, other = peer_identity(der(ISSUED), ID), peer_identity(twin, ID)
    assert one.fingerprint != other.fingerprint
    assert (one.issuer_key_id, one.serial) == (other.issuer_key_id, other.serial)


ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def bit_string(content: bytes) -> bytes:
    assert len(content) < 127
    return bytes([3, len(content) + 1, 0]) + content


def test_clients_and_administrators_are_never_each_other() -> None:
    admin = der(forge(CA, [admin_uri(ID, "anna")]))
    assert peer_identity(admin, ID, "admin").name == "anna"
    with pytest.raises(Refusal, match=f"names appliance://{ID}/admin/anna, which is no client of this appliance"):
        peer_identity(admin, ID)
    with pytest.raises(Refusal, match=f"names {URI}, which is no administrator of this appliance"):
        peer_identity(der(ISSUED), ID, "admin")


@given(st.text(max_size=80), st.sampled_from(["client", "admin"]))
def test_only_a_plain_name_is_a_name(name: str, kind: IdentityKind) -> None:
    uri = {"client": client_uri, "admin": admin_uri}[kind](ID, name)
    try:
        identity = peer_identity(der(forge(CA, [uri])), ID, kind)
    except (ValueError, Refusal):
        return
    assert identity.name == name
    assert name.isascii()
    assert name == name.lower()
    assert name.replace("-", "").isalnum()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.data())
def test_whatever_a_ca_signs_is_an_identity_or_a_refusal(data: st.DataObject) -> None:
    """The signature is not checked here, so this is every certificate near a good one."""
    damaged = bytearray(der(ISSUED))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refusal):
        assert isinstance(peer_identity(bytes(damaged), ID), PeerIdentity)


def test_other_kinds_of_names_do_not_count() -> None:
    assert peer_identity(der(forge(CA, [URI], padding=2)), ID).name == "demo"


def test_dates_count_at_every_check() -> None:
    pair = forge(CA, [URI])
    identity = peer_identity(der(pair), ID)
    second = timedelta(seconds=1)
    identity.check_valid(identity.not_after)
    with pytest.raises(Refusal, match="expired on"):
        identity.check_valid(identity.not_after + second)
    identity.check_valid(identity.not_before)
    with pytest.raises(Refusal, match="not valid before"):
        identity.check_valid(identity.not_before - second)


@pytest.mark.parametrize(
    ("uris", "why"),
    [
        ([], "names nobody"),
        ([URI, f"appliance://{ID}/client/admin"], "2 URI names"),
        ([URI, URI], "2 URI names"),
        ([URI, "https://example/"], "2 URI names"),
        (["appliance://fedcba9876543210/client/demo"], "no client of this appliance"),
        ([f"spiffe://{ID}/client/demo"], "no client of this appliance"),
        ([f"APPLIANCE://{ID}/client/demo"], "no client of this appliance"),
        ([f"appliance://{ID}/admin/demo"], "no client of this appliance"),
        ([f"appliance://{ID}/client/"], "no client of this appliance"),
        ([f"appliance://{ID}/client/demo/"], "no client of this appliance"),
        ([f"appliance://{ID}/client/Demo"], "no client of this appliance"),
        ([f"appliance://{ID}/client/demo\n"], r"demo\\x0a, which is no client"),
        ([f"appliance://{ID}/client/" + "a" * 64], "no client of this appliance"),
        ([f"x{URI}"], "no client of this appliance"),
    ],
)
def test_exactly_one_uri_of_ours(uris: list[str], why: str) -> None:
    refusal = refusal_of(der(forge(CA, uris)))
    with pytest.raises(Refusal, match=why):
        raise refusal


def test_names_without_any_uri() -> None:
    assert "0 URI names" in refusal_of(der(forge(CA, [], padding=1))).message


@pytest.mark.parametrize(
    "usage", [None, [ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]]
)
def test_the_certificate_must_be_for_clients(usage: list[ExtendedKeyUsageOID] | None) -> None:
    pair = forge(CA, [URI], usage=usage)  # type: ignore[arg-type]
    assert "not for clients" in refusal_of(der(pair)).message


def test_a_large_certificate_is_refused_unread() -> None:
    assert "larger than 8192 bytes" in refusal_of(der(forge(CA, [URI], padding=400))).message


@pytest.mark.parametrize("certificate", [None, b"", b"\x30\x03abc", bytes(100)])
def test_no_certificate(certificate: bytes | None) -> None:
    refusal_of(certificate)
