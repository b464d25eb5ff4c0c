"""appliance.security.issuing"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security import issuing
from appliance.security.ca_changes import finalize_rotation, issue_from_successor, start_rotation
from appliance.security.certificate_facts import CertificateFacts, fingerprint, own_key_id
from appliance.security.certificate_names import server_names_of
from appliance.security.credentials import AUTHORITIES, AuthorityName, Credentials
from appliance.security.identity import peer_identity
from appliance.security.issuing import (
    LeafKind,
    due_for_renewal,
    forget_issued,
    make_authority,
    make_server,
    server_trust_pem,
    sign_leaf,
    trust_pem,
)
from appliance.security.key_changes import FORGET_AFTER
from appliance.security.private_keys import new_key
from appliance.security.revocations import revoke
from appliance.security.stored_pair import certificate_of, certificate_pem, load_pair
from tests.security.authorities import client_csr
from tests.unit.security.making import DAY, NAMES, NOW, PROFILES, der_of, founded

KINDS: tuple[LeafKind, ...] = ("client", "admin")


def rotating(name: AuthorityName) -> Credentials:
    successor = make_authority(PROFILES, name, founded().appliance_id, NOW)
    return issue_from_successor(start_rotation(founded(), name, successor, NOW), name, NOW)


@pytest.mark.parametrize("name", AUTHORITIES)
def test_an_authority_says_whose_it_is(name: AuthorityName) -> None:
    facts = CertificateFacts.of(certificate_of(make_authority(PROFILES, name, "a1b2", NOW)))
    assert facts.kind == "authority"
    assert facts.subject == f"CN=appliance a1b2 {name} CA"
    assert facts.not_after == NOW + 3650 * DAY


@pytest.mark.parametrize("kind", KINDS)
def test_a_leaf_is_listed_as_it_will_be_seen(kind: LeafKind) -> None:
    document, leaf = sign_leaf(founded(), PROFILES, kind, "anna", NOW)
    (issued,) = document.issued
    identity = peer_identity(der_of(leaf.certificate), document.appliance_id, kind)
    assert (identity.name, issued.name, issued.kind) == ("anna", "anna", kind)
    assert identity.reference == issued.reference
    assert identity.fingerprint == issued.fingerprint
    assert (identity.not_before, identity.not_after) == (issued.not_before, issued.not_after)
    assert leaf.key is not None
    assert b"PRIVATE KEY" in leaf.key
    assert b"PRIVATE KEY" not in leaf.certificate
    assert repr(leaf.key) not in repr(leaf)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_keeps_its_key_with_its_owner(kind: LeafKind) -> None:
    key = new_key()
    csr = client_csr(key, "whoever", "appliance://elsewhere/client/root")
    document, leaf = sign_leaf(founded(), PROFILES, kind, "anna", NOW, csr=csr)
    certificate = x509.load_pem_x509_certificate(leaf.certificate)
    assert leaf.key is None
    assert certificate.public_key() == key.public_key()
    assert peer_identity(der_of(leaf.certificate), document.appliance_id, kind).name == "anna", "not what it asked for"
    with pytest.raises(ChangeRefused, match="cannot be read") as caught:
        sign_leaf(founded(), PROFILES, kind, "anna", NOW, csr=b"junk")
    assert caught.value.code == "invalid"


def test_an_authority_whose_key_is_elsewhere_signs_nothing() -> None:
    document = founded()
    client = document.authorities["client"]
    keyless = replace(client, current=replace(client.current, key=None))
    document = replace(document, authorities={**document.authorities, "client": keyless})
    with pytest.raises(ChangeRefused, match="private key is not here"):
        sign_leaf(document, PROFILES, "client", "demo", NOW)


def test_an_expired_authority_signs_nothing() -> None:
    late = NOW + 3650 * DAY
    with pytest.raises(ChangeRefused, match="the authority expired"):
        sign_leaf(founded(), PROFILES, "client", "demo", late)
    with pytest.raises(ChangeRefused, match="the authority expired"):
        make_server(founded(), PROFILES, NAMES, late)


def test_the_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "ISSUED_MAX", 1)
    document, _ = sign_leaf(founded(), PROFILES, "client", "demo", NOW)
    with pytest.raises(ChangeRefused, match="1 certificates are listed"):
        sign_leaf(document, PROFILES, "client", "demo", NOW)


def test_a_server_certificate_is_of_the_authority_that_issues_now() -> None:
    for document in (founded(), rotating("server")):
        certificate = certificate_of(make_server(document, PROFILES, NAMES, NOW))
        certificate.verify_directly_issued_by(certificate_of(document.authorities["server"].issuing))
        assert server_names_of(certificate) == set(NAMES)


def test_what_clients_verify_the_server_with() -> None:
    document = rotating("server")
    old, new = document.authorities["server"].trusted
    assert trust_pem(document, "server") == server_trust_pem(document) == certificate_pem(old) + certificate_pem(new)


def test_a_certificate_is_due_at_two_thirds_of_its_own_life() -> None:
    stored = founded().server.active
    certificate = certificate_of(stored)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert abs(due_for_renewal(stored, PROFILES.server) - (begin + (end - begin) * 2 / 3)) < timedelta(hours=5)


# Forgetting.


def listed(document: Credentials) -> list[str]:
    return [issued.name for issued in document.issued]


def with_leaves(*names: str) -> Credentials:
    document = founded()
    for name in names:
        document, _ = sign_leaf(document, PROFILES, "client", name, NOW)
    return document


def test_expired_certificates_are_forgotten() -> None:
    document = with_leaves("a", "b")
    late = document.issued[1].not_after + FORGET_AFTER
    assert forget_issued(document, late) is document
    assert listed(forget_issued(document, late + DAY)) == []


def test_a_revoked_one_is_not_forgotten_by_a_clock_that_is_ahead() -> None:
    """Otherwise a wrong clock for a minute would make a revoked certificate good again."""
    document = with_leaves("a", "stolen")
    document = revoke(document, "certificate", document.issued[1].reference, NOW, by="anna", reason="stolen")
    ahead = forget_issued(document, NOW + 20_000 * DAY)
    assert listed(ahead) == ["stolen"]
    assert ahead.revocations == document.revocations


def test_a_revoked_one_is_forgotten_with_its_authority() -> None:
    document = with_leaves("a", "stolen")
    document = revoke(document, "certificate", document.issued[1].reference, NOW, by="anna", reason="stolen")
    document = revoke(document, "principal", "a", NOW, by="anna", reason="")
    document = start_rotation(document, "client", make_authority(PROFILES, "client", "x", NOW), NOW)
    document = issue_from_successor(document, "client", NOW)
    late = NOW + 366 * DAY + FORGET_AFTER
    assert listed(forget_issued(document, late)) == ["stolen"]
    done = finalize_rotation(document, "client", [], NOW, force=False)
    assert forget_issued(done, NOW) is done, "it has not expired"
    assert listed(forget_issued(done, late)) == []
    assert [known.kind for known in forget_issued(done, late).revocations] == ["principal"]


def test_key_ids_and_fingerprints_are_those_of_the_certificate() -> None:
    document, leaf = sign_leaf(founded(), PROFILES, "client", "demo", NOW)
    certificate = x509.load_pem_x509_certificate(leaf.certificate)
    assert document.issued[0].fingerprint == fingerprint(certificate)
    assert document.issued[0].issuer_key_id == own_key_id(load_pair(document.authorities["client"].current).certificate)
