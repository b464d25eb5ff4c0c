"""appliance.security.identity"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.security.certificates import new_ca
from appliance.security.identity import peer_identity
from appliance.security.refusal import Refusal
from tests.security.forgery import der, forge

ID = "0123456789abcdef"
URI = f"appliance://{ID}/client/demo"
CA = new_ca("client CA", datetime.now(UTC))


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
