"""appliance.security.crl_changes"""

from __future__ import annotations

from dataclasses import replace as with_fields
from datetime import datetime

import pytest
from cryptography import x509

from appliance.errors import ChangeRefused
from appliance.security.access_view import AccessView
from appliance.security.certificate_facts import own_key_id
from appliance.security.certificates import KeyPair
from appliance.security.credentials import Credentials
from appliance.security.crl import Crl, make_crl
from appliance.security.crl_changes import import_crl, read_crl
from appliance.security.external import Trust
from appliance.security.stored_pair import load_pair
from tests.security.authorities import ForeignCa, key_usage, own_ca
from tests.unit.security.making import DAY, HOUR, NOW, configured, founded

SITE, OTHER = own_ca("Site CA", NOW), own_ca("Other CA", NOW)


def listing(ca: KeyPair, number: int, *serials: int, made: datetime = NOW) -> bytes:
    return make_crl(ca, dict.fromkeys(serials, made), number, made, made + DAY)


def take(
    document: Credentials, data: bytes, in_force: dict[str, Crl], trusted: tuple[KeyPair, ...] = (SITE, OTHER)
) -> Credentials:
    """Imports as the admin API does, and notes what is in force then."""
    authorities = [ca.certificate for ca in trusted]
    found, keys = read_crl(data, authorities, NOW), {own_key_id(authority) for authority in authorities}
    document, crl = import_crl(document, data, found, keys, in_force, NOW)
    in_force[crl.issuer_key_id] = crl
    return document


def test_a_list_takes_the_place_of_its_issuers_one() -> None:
    in_force: dict[str, Crl] = {}
    document = take(founded(), listing(SITE, 1, 10), in_force)
    document = take(document, listing(OTHER, 1, 20), in_force)
    document = take(document, listing(SITE, 2, 10, 11), in_force)
    assert [stored.issuer_key_id for stored in document.crls] == [own_key_id(ca.certificate) for ca in (OTHER, SITE)]
    assert document.crls[1].imported == NOW
    assert sorted(sorted(crl.serials) for crl in in_force.values()) == [[10, 11], [20]]


def test_what_is_stored_counts_after_a_restart() -> None:
    """By its own bytes: they are verified again."""
    trusting = with_fields(configured(), trust=Trust((SITE.certificate,), ()))
    document = take(founded(), listing(SITE, 1, 10), {})
    assert [crl.serials for crl in AccessView.build(trusting, document).crls.values()] == [{10}]


def test_our_own_list_is_for_others() -> None:
    document = founded()
    ca = load_pair(document.authorities["client"].current)
    with pytest.raises(ChangeRefused, match="the appliance's own"):
        take(document, listing(ca, 1, 10), {}, (ca,))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (listing(SITE, 4, 10), "number 4; number 5 is in force"),
        (listing(SITE, 5, 10, 11, 12), "number 5 like the one in force"),
        (listing(SITE, 6, 10, made=NOW - HOUR), "before the one in force"),
        (listing(SITE, 6, made=NOW + 2 * DAY), "in the future"),
        (listing(own_ca("Stranger", NOW), 6), "which is not trusted here"),
        (listing(KeyPair(SITE.certificate, OTHER.key), 6), "was not signed by it"),
        (b"", "cannot be read"),
        (listing(SITE, 6)[:-60], "cannot be read"),
        (listing(SITE, 6) * 2, "2 revocation lists"),
    ],
    ids=["older", "same number", "older date", "future", "stranger", "forged", "empty", "cut", "two"],
)
def test_what_would_take_a_revocation_back_is_refused(data: bytes, fault: str) -> None:
    in_force: dict[str, Crl] = {}
    document = take(founded(), listing(SITE, 5, 10, 11), in_force)
    with pytest.raises(ChangeRefused, match=fault) as caught:
        take(document, data, in_force)
    assert caught.value.code == "invalid"
    assert len(in_force) == 1


def test_the_same_list_again_is_no_fault() -> None:
    in_force: dict[str, Crl] = {}
    data = listing(SITE, 5, 10)
    document = take(take(founded(), data, in_force), data, in_force)
    assert len(document.crls) == 1


def test_an_authority_that_may_not_sign_lists() -> None:
    ca = ForeignCa(
        "No lists",
        extensions=[x509.BasicConstraints(ca=True, path_length=None), key_usage(key_cert_sign=True)],
    )
    pair = KeyPair(ca.certificate, ca.key)  # type: ignore[arg-type]
    with pytest.raises(ChangeRefused, match="may not sign revocation lists"):
        take(founded(), listing(pair, 1), {}, (pair,))


def test_an_authority_that_lost_its_trust_while_its_list_was_read() -> None:
    data = listing(SITE, 1, 10)
    found = read_crl(data, [SITE.certificate], NOW)
    with pytest.raises(ChangeRefused, match="is not any more"):
        import_crl(founded(), data, found, {own_key_id(OTHER.certificate)}, {}, NOW)
