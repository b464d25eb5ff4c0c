"""appliance.security.founding"""

from __future__ import annotations

from appliance.security.access_view import AccessView
from appliance.security.certificate_names import server_names_of
from appliance.security.credentials import AUTHORITIES
from appliance.security.founding import found
from appliance.security.stored_pair import certificate_of
from tests.unit.security.making import NAMES, NOW, PROFILES, configured


def test_the_first_document_is_complete_and_serves() -> None:
    document = found(PROFILES, NAMES, b"s" * 32, NOW)
    assert document.generation == 1
    assert document.authorities.keys() == set(AUTHORITIES)
    assert {authority.phase for authority in document.authorities.values()} == {"standby"}
    assert (document.keys, document.issued, document.revocations, document.crls) == ({}, (), (), ())
    assert document.seal_keys == (b"s" * 32,)
    assert [(pepper.id, len(pepper.secret), pepper.created) for pepper in document.peppers] == [(1, 32, NOW)]
    active = certificate_of(document.server.active)
    assert server_names_of(active) == set(NAMES)
    active.verify_directly_issued_by(certificate_of(document.authorities["server"].current))
    AccessView.build(configured(), document)


def test_no_two_appliances_share_anything() -> None:
    one, other = (found(PROFILES, NAMES, b"s" * 32, NOW) for _ in range(2))
    assert one.appliance_id != other.appliance_id
    assert one.peppers[0].secret != other.peppers[0].secret
    keys = [authority.current.key for document in (one, other) for authority in document.authorities.values()]
    keys += [document.server.active.key for document in (one, other)]
    assert len(set(keys)) == 8
