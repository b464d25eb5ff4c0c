"""appliance.security.revocations"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security import revocations
from appliance.security.credentials import Credentials, Issued, RevocationKind
from appliance.security.revocations import RevocationSet, find_issued, restore_principal, revoke
from tests.unit.security.making import DAY, NOW, founded

KINDS: tuple[RevocationKind, ...] = ("certificate", "token", "principal")


def issued(serial: str, fingerprint: str) -> Issued:
    return Issued(
        kind="client",
        name="demo",
        serial=serial,
        issuer_key_id="ab" * 20,
        fingerprint=fingerprint.ljust(64, "0"),
        not_before=NOW,
        not_after=NOW + DAY,
    )


def listing(*all_issued: Issued) -> Credentials:
    return replace(founded(), issued=all_issued)


def revoked(document: Credentials, kind: RevocationKind, value: str, by: str = "anna") -> Credentials:
    return revoke(document, kind, value, NOW, by=by, reason="lost")


def test_each_kind_is_asked_for_itself() -> None:
    document = founded()
    for kind in KINDS:
        document = revoked(document, kind, f"a {kind}")
    refused = RevocationSet(document.revocations)
    assert refused.certificates == {"a certificate"}
    assert refused.principals == {"a principal"}
    assert refused.tokens == {"a token"}


def test_revoking_again_changes_nothing() -> None:
    document = revoked(founded(), "principal", "demo")
    assert revoked(document, "principal", "demo", "bob") is document
    assert len(revoked(document, "token", "demo").revocations) == 2


def test_there_are_not_more_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "REVOCATIONS_MAX", 1)
    document = revoked(founded(), "principal", "demo")
    with pytest.raises(ChangeRefused, match="1 revocations"):
        revoked(document, "principal", "bob")
    assert revoked(document, "principal", "demo") is document


def test_a_principal_can_be_restored_and_nothing_else_with_it() -> None:
    document = founded()
    for kind in KINDS:
        document = revoked(document, kind, "demo")
    restored = restore_principal(document, "demo")
    assert [known.kind for known in restored.revocations] == ["certificate", "token"]
    with pytest.raises(ChangeRefused, match="'demo' is not revoked") as caught:
        restore_principal(restored, "demo")
    assert caught.value.code == "not_found"


FIRST = issued("1234567890abcdef", "aaaa111122223333")
SECOND = issued("1234567890fedcba", "bbbb111122223333")
# openssl writes this serial number as 0ABC…, and other tools as 00:FF:…
ODD = issued("abc123456789abc", "cccc111122223333")
HIGH = issued("ff23456789abcdef", "dddd111122223333")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("1234567890abcdef", FIRST),
        ("1234567890a", FIRST),
        ("1234567890FEDCBA", SECOND),
        ("12:34:56:78:90:FE", SECOND),
        ("aaaa1111", FIRST),
        ("BB:BB:11:11", SECOND),
        ("0ABC123456789ABC", ODD),
        ("0a:bc:12:34:56", ODD),
        ("00:FF:23:45:67:89:AB:CD:EF", HIGH),
    ],
)
def test_a_certificate_is_found_by_serial_or_fingerprint(reference: str, expected: Issued) -> None:
    assert find_issued(listing(FIRST, SECOND, ODD, HIGH), reference) == expected


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("1234567890", "invalid"),
        ("12345678", "invalid"),
        ("1234567", "not_found"),
        ("", "not_found"),
        ("00000000", "not_found"),
        ("0000000000000001", "not_found"),
        ("1234567890abcdef0", "not_found"),
        ("nonsense", "not_found"),
    ],
)
def test_what_fits_none_or_several_is_refused(reference: str, code: str) -> None:
    with pytest.raises(ChangeRefused) as caught:
        find_issued(listing(FIRST, SECOND, ODD, HIGH), reference)
    assert caught.value.code == code


def test_one_that_is_another_ones_fingerprint_is_ambiguous() -> None:
    other = issued("ee11111111111111", FIRST.serial)
    with pytest.raises(ChangeRefused, match="fits 2 certificates; give more digits"):
        find_issued(listing(FIRST, other), FIRST.serial)
    assert find_issued(listing(FIRST, other), other.fingerprint) == other


@given(st.text(max_size=80))
def test_no_text_finds_what_it_does_not_name(reference: str) -> None:
    try:
        found = find_issued(listing(FIRST, ODD), reference)
    except ChangeRefused:
        return
    bare = reference.lower().replace(":", "")
    assert found.fingerprint.startswith(bare) or found.serial.startswith(bare.lstrip("0"))
