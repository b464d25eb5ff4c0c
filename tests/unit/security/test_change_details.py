"""appliance.security.change_details"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from msgspec.structs import replace

from appliance.access_config import Listener
from appliance.security.allow_changes import apply_allow, confirm_allow, discard_allow, revert_allow, stage_allow
from appliance.security.api_keys import ApiKey
from appliance.security.ca_changes import start_rotation
from appliance.security.change_details import change_details
from appliance.security.client_bundle import renew_client
from appliance.security.credentials import AllowEntry, AllowState, Credentials, StoredPair
from appliance.security.key_changes import add_key, add_pepper, retire_pepper, revoke_key
from appliance.security.profiles import Profiles
from appliance.security.revocations import revoke
from appliance.security.server_changes import show_server, stage_server
from tests.unit.security.making import DAY, NOW, founded

LISTENERS = {"api": Listener(), "dify": Listener()}
SECONDS = timedelta(seconds=120)


@pytest.fixture(scope="module")
def document() -> Credentials:
    return founded()


def test_of_the_allowlist_networks_and_their_listener(document: Credentials) -> None:
    old, new = AllowEntry(network="10.0.0.0/8", listener="api"), AllowEntry(network="192.0.2.7/32")
    start = replace(document, allow=AllowState.of((old,)))
    change = {"added": "192.0.2.7/32", "removed": "10.0.0.0/8 (api)"}
    back = {"added": "10.0.0.0/8 (api)", "removed": "192.0.2.7/32"}
    staged = stage_allow(start, LISTENERS, NOW, add=[new], remove=["10.0.0.0/8"])
    applied = apply_allow(staged, NOW, SECONDS)
    assert change_details(start, staged) == change
    assert change_details(staged, discard_allow(staged)) == back
    assert change_details(staged, applied) == change
    assert change_details(applied, confirm_allow(applied, NOW)) == change
    assert change_details(applied, revert_allow(applied)) == back


def test_of_another_note_what_it_was(document: Credentials) -> None:
    entry = AllowEntry(network="10.0.0.0/8", listener="api", comment="office")
    start = replace(document, allow=AllowState.of((entry,)))
    staged = stage_allow(start, LISTENERS, NOW, add=[replace(entry, comment="office, floor 2")])
    change = {"before": '10.0.0.0/8 (api) "office"', "after": '10.0.0.0/8 (api) "office, floor 2"'}
    assert change_details(start, staged) == change
    assert change_details(staged, apply_allow(staged, NOW, None)) == change


def test_of_the_server_certificate_and_the_authorities_what_they_were(document: Credentials) -> None:
    pair = StoredPair(certificate=b"another", key=None)
    staged = stage_server(document, pair)
    assert change_details(document, staged) == {}
    active = change_details(staged, show_server(staged, pair))
    assert active["after"] == f"server certificate {hashlib.sha256(b'another').hexdigest()[:16]}"
    assert active["before"] != active["after"]
    rotating = start_rotation(document, "client", pair, NOW)
    assert change_details(document, rotating) == {"before": "client CA standby", "after": "client CA trust_both"}


def test_a_long_list_is_cut_and_counted(document: Credentials) -> None:
    entries = [AllowEntry(network=f"2001:db8::{number:x}/128") for number in range(1000)]
    (text,) = change_details(document, stage_allow(document, LISTENERS, NOW, add=entries)).values()
    assert isinstance(text, str)
    assert text.startswith("2001:db8::/128, ")
    assert text.endswith(", ... (1000 in all)")
    assert len(text) < 256


def test_of_keys_and_certificates_which_and_whose(document: Credentials) -> None:
    key = ApiKey.generate()
    with_key = add_key(document, key, "alice", NOW, 90 * DAY)
    assert change_details(document, with_key) == {"kid": key.kid, "principal": "alice"}
    revoked = {"revoked": key.kid, "principal": "alice"}
    assert change_details(with_key, revoke_key(with_key, key.kid, NOW)) == revoked
    peppered = add_pepper(with_key, b"p" * 32, NOW)
    retired = retire_pepper(peppered, 1, NOW, force=True)
    assert key.kid in str(change_details(peppered, retired)["revoked"])

    renewed, _ = renew_client(with_key, Profiles.shipped(), "alice", NOW)
    issued = renewed.issued[-1]
    certificate = {"serial": issued.serial, "principal": "alice"}
    assert change_details(with_key, renewed) == certificate
    refused = revoke(renewed, "certificate", issued.reference, NOW, by="anna", reason="")
    assert change_details(renewed, refused) == certificate
    elsewhere = revoke(renewed, "certificate", f"{'a' * 40}:77", NOW, by="anna", reason="")
    assert change_details(renewed, elsewhere) == {"serial": "77"}
    assert change_details(renewed, revoke(renewed, "principal", "alice", NOW, by="anna", reason="")) == {}
