"""Verdicts on certificates, of a real appliance that was just founded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from appliance.audit.keys import SealKey
from appliance.doctor.certificates import certificate_verdicts
from appliance.doctor.verdict import worst
from appliance.security.credentials import Credentials
from appliance.security.founding import found
from appliance.security.profiles import Profiles
from appliance.security.stored_pair import certificate_of

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def document() -> Credentials:
    return found(Profiles.shipped(), ("localhost", "127.0.0.1"), SealKey.generate().private_bytes, NOW)


def test_a_new_appliance_is_well(document: Credentials) -> None:
    verdicts = certificate_verdicts(document, ["localhost"], (), NOW)
    assert worst(verdicts) == "ok" and len(verdicts) == 3


def test_a_name_that_is_missing(document: Credentials) -> None:
    first, *_ = certificate_verdicts(document, ["localhost", "llm.example"], (), NOW)
    assert first.level == "error" and "does not name llm.example" in first.found


def test_what_ends_soon_or_has_ended(document: Credentials) -> None:
    until = certificate_of(document.server.active).not_valid_after_utc
    for before, level in ((timedelta(days=10), "warning"), (timedelta(hours=2), "error"), (timedelta(-1), "error")):
        verdicts = certificate_verdicts(document, ["localhost"], (), until - before)
        about = [one for one in verdicts if "the server certificate " in one.found and "end" in one.found]
        assert [one.level for one in about] == [level]


def test_an_unknown_authority_and_a_broken_chain(document: Credentials) -> None:
    other = found(Profiles.shipped(), ("localhost",), SealKey.generate().private_bytes, NOW)
    mixed = replace(document, server=other.server)
    verdicts = certificate_verdicts(mixed, ["localhost"], (), NOW)
    assert verdicts[1].level == "error" and "nobody here knows who signed" in verdicts[1].found
    elsewhere = [certificate_of(pair) for pair in other.authorities["server"].trusted]
    assert certificate_verdicts(mixed, ["localhost"], elsewhere, NOW)[1].level == "ok"
    wrong = replace(document.server.active, chain=(other.authorities["server"].current.certificate,))
    broken = replace(document, server=replace(document.server, active=wrong))
    assert "chain is broken" in certificate_verdicts(broken, ["localhost"], elsewhere, NOW)[1].found
