"""Expired certificates are forgotten late, so that a clock that was wrong takes no revocation back."""

from __future__ import annotations

from datetime import timedelta

from appliance.security.ca_changes import finalize_rotation, issue_from_successor, start_rotation
from appliance.security.client_bundle import add_client
from appliance.security.issuing import forget_issued, make_authority
from appliance.security.key_changes import FORGET_AFTER
from appliance.security.revocations import revoke
from appliance.security.upkeep import alarms
from tests.unit.security.making import DAY, NOW, PROFILES, founded


def test_a_revocation_outlives_its_certificate() -> None:
    document, _ = add_client(founded(), PROFILES, "thief", NOW, life=90 * DAY)
    (issued,) = document.issued
    document = revoke(document, "certificate", issued.reference, NOW, by="anna", reason="")
    document = revoke(document, "principal", "thief", NOW, by="anna", reason="")

    assert forget_issued(document, NOW + timedelta(days=366)) is document
    assert forget_issued(document, issued.not_after + FORGET_AFTER) is document

    late = issued.not_after + FORGET_AFTER + DAY
    assert forget_issued(document, late) is document, "its authority is still trusted"
    document = start_rotation(document, "client", make_authority(PROFILES, "client", "x", NOW), NOW)
    document = finalize_rotation(issue_from_successor(document, "client", NOW), "client", [], NOW, force=False)
    after = forget_issued(document, late)
    assert after.issued == ()
    assert [known.kind for known in after.revocations] == ["principal"]


def test_what_ended_long_ago_is_no_alarm() -> None:
    document, _ = add_client(founded(), PROFILES, "gone", NOW, life=90 * DAY)
    (issued,) = document.issued
    name = f"the certificate of client {issued.name}"
    assert name in [alarm.what for alarm in alarms(document, issued.not_after - DAY)]
    assert name in [alarm.what for alarm in alarms(document, issued.not_after + DAY)]
    assert name not in [alarm.what for alarm in alarms(document, issued.not_after + 31 * DAY)]
