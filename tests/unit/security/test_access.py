"""appliance.security.access"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from appliance.security.access import Principal, decide
from appliance.security.api_keys import ApiKey, KeyRecord
from appliance.security.identity import PeerIdentity
from appliance.security.refusal import Refusal
from appliance.security.secret_files import Generations

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PEPPERS = Generations("pepper", {1: b"a" * 32})
DEMO = PeerIdentity("demo", NOW - DAY, NOW + DAY)
KEY = ApiKey.generate()
OTHERS_KEY = ApiKey.generate()
STALE_KEY = ApiKey.generate()
RECORDS = {
    record.kid: record
    for record in (
        KeyRecord.of(KEY, "demo", PEPPERS, created=NOW),
        KeyRecord.of(OTHERS_KEY, "bob", PEPPERS, created=NOW),
        KeyRecord.of(STALE_KEY, "demo", Generations("pepper", {7: b"z" * 32}), created=NOW),
    )
}
TEXT = KEY.reveal()


def ask(*authorization: str, identity: PeerIdentity = DEMO) -> Principal:
    return decide(identity, authorization, RECORDS.get, PEPPERS, NOW)


@pytest.mark.parametrize("header", [f"Bearer {TEXT}", f"bearer {TEXT}", f"BEARER   {TEXT} ", f" Bearer {TEXT}"])
def test_certificate_and_key_of_one_principal(header: str) -> None:
    assert ask(header) == Principal("demo", KEY.kid)


@pytest.mark.parametrize(
    "authorization", [(), ("",), ("Bearer",), ("Bearer  ",), ("Basic dXNlcjpwYXNz",), (TEXT,), (f"Token {TEXT}",)]
)
def test_no_key(authorization: tuple[str, ...]) -> None:
    with pytest.raises(Refusal) as caught:
        ask(*authorization)
    assert (caught.value.code, caught.value.status) == ("missing_api_key", 401)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEXT[:-1] + ("A" if TEXT[-1] != "A" else "B"), "mistyped"),
        ("sk-1234", "mistyped"),
        ("x" * 20_000, "mistyped"),
        (f"{TEXT} {TEXT}", "mistyped"),
        ("\ud800", "mistyped"),
        (ApiKey("sk", KEY.kid, OTHERS_KEY.secret).reveal(), "wrong secret"),
        (ApiKey.generate().reveal(), "unknown API key"),
        (ApiKey("adm", KEY.kid, KEY.secret).reveal(), "admin key"),
        (STALE_KEY.reveal(), "pepper"),
    ],
)
def test_a_wrong_key_is_told_apart_in_the_log_alone(text: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        ask(f"Bearer {text}")
    assert (caught.value.code, caught.value.status) == ("invalid_api_key", 401)
    assert caught.value.message == "Incorrect API key provided."
    assert reason in caught.value.reason
    assert KEY.secret not in caught.value.reason


def test_anothers_key() -> None:
    with pytest.raises(Refusal) as caught:
        ask(f"Bearer {OTHERS_KEY.reveal()}")
    assert (caught.value.code, caught.value.status) == ("key_certificate_mismatch", 401)
    assert caught.value.reason == f"sent the API key {OTHERS_KEY.kid} of client bob"
    assert "bob" not in caught.value.message


def test_two_headers() -> None:
    with pytest.raises(Refusal) as caught:
        ask(f"Bearer {TEXT}", f"Bearer {TEXT}")
    assert (caught.value.code, caught.value.status) == ("invalid_request", 400)


@pytest.mark.parametrize("shift", [2 * DAY, -2 * DAY])
def test_a_certificate_out_of_its_dates_comes_before_any_key(shift: timedelta) -> None:
    late = PeerIdentity("demo", DEMO.not_before + shift, DEMO.not_after + shift)
    for authorization in ((f"Bearer {TEXT}",), ()):
        with pytest.raises(Refusal) as caught:
            ask(*authorization, identity=late)
        assert caught.value.code == "certificate_rejected"
