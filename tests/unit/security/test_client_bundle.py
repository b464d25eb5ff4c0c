"""appliance.security.client_bundle"""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.errors import ChangeRefused
from appliance.security.api_keys import ApiKey, matches
from appliance.security.client_bundle import add_client, is_client, issue_certificate, renew_client
from appliance.security.credentials import Credentials
from appliance.security.identity import peer_identity
from appliance.security.issuing import server_trust_pem
from appliance.security.key_changes import add_key, peppers_of
from appliance.security.private_keys import new_key
from tests.security.authorities import client_csr
from tests.unit.security.making import DAY, NOW, PROFILES, client_of, der_of, founded

CSR = client_csr(new_key(), "whoever", "appliance://x/client/whoever")


def added(
    name: str = "demo", document: Credentials | None = None, csr: bytes | None = None
) -> tuple[Credentials, dict[str, bytes]]:
    document, files = add_client(document or founded(), PROFILES, name, NOW, life=90 * DAY, label="test", csr=csr)
    return document, dict(files)


def test_a_bundle_is_whole() -> None:
    document, files = added()
    assert files.keys() == {"client.crt", "client.key", "ca.crt", "api.key"}
    assert files["ca.crt"] == server_trust_pem(document)
    certificate = x509.load_pem_x509_certificate(files["client.crt"])
    assert load_pem_private_key(files["client.key"], None).public_key() == certificate.public_key()
    key = client_of("demo", files).key
    record = document.keys[key.kid]
    assert matches(key, record, peppers_of(document))
    assert (record.principal, record.label, record.not_after) == ("demo", "test", NOW + 90 * DAY)
    assert peer_identity(der_of(files["client.crt"]), document.appliance_id).name == "demo"


def test_with_a_request_there_is_no_private_key() -> None:
    assert added(csr=CSR)[1].keys() == {"client.crt", "ca.crt", "api.key"}
    assert renew_client(added()[0], PROFILES, "demo", NOW, csr=CSR)[1].keys() == {"client.crt", "ca.crt"}


def test_renewing_is_another_certificate_of_the_same_client() -> None:
    document, first = added()
    again, files = renew_client(document, PROFILES, "demo", NOW)
    assert files.keys() == {"client.crt", "client.key", "ca.crt"}
    assert files["client.crt"] != first["client.crt"]
    assert [issued.name for issued in again.issued] == ["demo", "demo"]
    assert again.keys == document.keys


def test_a_name_is_taken_by_a_key_or_a_certificate() -> None:
    document, _ = added()
    with pytest.raises(ChangeRefused, match="the client 'demo' exists") as caught:
        added("demo", document)
    assert caught.value.code == "conflict"
    by_key = add_key(founded(), ApiKey.generate(), "script", NOW, DAY)
    assert is_client(by_key, "script")
    with pytest.raises(ChangeRefused):
        added("script", by_key)
    assert renew_client(by_key, PROFILES, "script", NOW)[1].keys() == {"client.crt", "client.key", "ca.crt"}


def test_an_administrator_is_no_client() -> None:
    document, files = issue_certificate(founded(), PROFILES, "admin", "anna", NOW)
    assert files.keys() == {"admin.crt", "admin.key", "ca.crt"}
    assert not is_client(document, "anna")
    assert peer_identity(der_of(files["admin.crt"]), document.appliance_id, "admin").name == "anna"
    assert added("anna", document)[0].keys
    with pytest.raises(ChangeRefused, match="there is no client 'anna'") as caught:
        renew_client(document, PROFILES, "anna", NOW)
    assert caught.value.code == "not_found"
    assert issue_certificate(document, PROFILES, "admin", "anna", NOW, csr=CSR)[1].keys() == {"admin.crt", "ca.crt"}


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/b", "..", "a" * 64, "ä", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ChangeRefused) as caught:
        added(name)
    assert caught.value.code == "invalid"
    with pytest.raises(ChangeRefused):
        issue_certificate(founded(), PROFILES, "admin", name, NOW)


def test_a_damaged_request_leaves_no_client() -> None:
    with pytest.raises(ChangeRefused, match="signing request"):
        added(csr=b"junk")
    assert not is_client(founded(), "demo")
