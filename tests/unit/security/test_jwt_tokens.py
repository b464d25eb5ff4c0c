"""appliance.security.jwt_tokens: what an issuer's tokens may say. Forged ones: tests/security/test_forged_tokens.py"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access_config import JwtIssuer
from appliance.errors import ConfigError
from appliance.security import jwt_tokens
from appliance.security.api_keys import ApiKey
from appliance.security.jwt_tokens import JwtIdentity, JwtVerifier, looks_like_jwt
from appliance.security.refusal import INCORRECT_KEY, Refusal
from tests.security.tokens import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    NOW,
    SECONDS,
    KeyFolder,
    claims,
    jwk,
    private_key,
    public_pem,
    token,
)

ED = private_key("EdDSA")
LEEWAY = timedelta(seconds=60)


def verifier(folder: Path, **settings: Any) -> JwtVerifier:
    keys = KeyFolder(folder).jwks("set.json", *(jwk(private_key(algorithm)) for algorithm in ALGORITHMS))
    fields = {"issuer": ISSUER, "audience": AUDIENCE, "keys": (keys,), "algorithms": ALGORITHMS} | settings
    return JwtVerifier.load([JwtIssuer(**fields)], folder)


@pytest.fixture
def jwts(tmp_path: Path) -> JwtVerifier:
    return verifier(tmp_path)


def reason(jwts: JwtVerifier, text: str) -> str:
    """Why `text` is refused, without the words that every refusal begins with."""
    with pytest.raises(Refusal) as caught:
        jwts.verify(text, NOW)
    assert (caught.value.code, caught.value.message) == ("invalid_api_key", INCORRECT_KEY)
    return caught.value.reason.removeprefix(f"sent a JWT of issuer {ISSUER} ")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token(jwts: JwtVerifier, algorithm: str) -> None:
    text = token(private_key(algorithm))
    assert looks_like_jwt(text)
    expected = JwtIdentity("app", "token-1")
    for _ in range(3):
        assert jwts.verify(text, NOW) == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["other", AUDIENCE]},
        {"jti": None},
        {"iat": None, "nbf": None},
        {"iat": SECONDS + 60},
        {"nbf": SECONDS + 59.5},
        {"exp": SECONDS - 59},
        {"exp": SECONDS + 3600.5},
        {"iat": SECONDS - 80_000, "exp": SECONDS + 6400},
        {"scope": {"deep": [[["x"]]]}},
    ],
)
def test_what_a_token_may_say(jwts: JwtVerifier, changed: dict[str, Any]) -> None:
    assert jwts.verify(token(ED, claims(**changed)), NOW).principal == "app"


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"aud": None}, "for the audience None"),
        ({"aud": "other"}, "for the audience 'other'"),
        ({"aud": [AUDIENCE.upper()]}, "for the audience <list>"),
        ({"aud": {AUDIENCE: 1}}, "for the audience <dict>"),
        ({"exp": None}, "that never expires (no exp)"),
        ({"exp": SECONDS - 60}, "that expired on 2026-03-30 11:59:00 UTC"),
        ({"exp": "tomorrow"}, "whose exp is no time: 'tomorrow'"),
        ({"exp": True}, "whose exp is no time: True"),
        ({"exp": 10**30}, "whose exp is no time: 1"),
        ({"exp": -1}, "whose exp is no time: -1"),
        ({"exp": [1]}, "whose exp is no time: <list>"),
        ({"nbf": SECONDS + 61}, "that is not valid before 2026-03-30 12:01:01 UTC; compare the clocks"),
        ({"nbf": 10**11}, "that is not valid before 5138-11-16 09:46:40 UTC; compare the clocks"),
        ({"nbf": "x"}, "whose nbf is no time: 'x'"),
        ({"iat": SECONDS + 61}, "issued on 2026-03-30 12:01:01 UTC, in the future; compare the clocks"),
        ({"iat": 0}, "that is valid for 1774875600 s; at most 86400 are allowed"),
        ({"iat": None, "nbf": None, "exp": SECONDS + 86_401}, "that is valid for 86401 s; at most 86400 are allowed"),
        ({"exp": 10**11}, "that is valid for 98225128010 s; at most 86400 are allowed"),
        ({"sub": None}, "whose claim sub names no client: None"),
        ({"sub": ""}, "whose claim sub names no client: ''"),
        ({"sub": "App"}, "whose claim sub names no client: 'App'"),
        ({"sub": "app\n"}, "whose claim sub names no client: 'app\\\\x0a'"),
        ({"sub": "../app"}, "whose claim sub names no client: '../app'"),
        ({"sub": "a" * 64}, f"whose claim sub names no client: '{'a' * 64}'"),
        ({"sub": ["app"]}, "whose claim sub names no client: <list>"),
        ({"jti": 5}, "whose jti is no short text"),
        ({"jti": "x" * 257}, "whose jti is no short text"),
    ],
)
def test_what_a_token_may_not_say(jwts: JwtVerifier, changed: dict[str, Any], fault: str) -> None:
    assert reason(jwts, token(ED, claims(**changed))).startswith(fault)


def test_a_deeply_nested_claim_does_no_harm(jwts: JwtVerifier) -> None:
    for depth in (400, 900, 2000, 2800):
        nested = b"[" * depth + b"]" * depth
        for claim in (b"sub", b"aud", b"iss", b"exp"):
            reason(jwts, token(ED, b'{"iss": "' + ISSUER.encode() + b'", "' + claim + b'": ' + nested + b"}"))


@pytest.mark.parametrize("number", [b"1e999", b"1e308", b"9" * 5000, b"-" + b"9" * 400, b"NaN", b"Infinity"])
def test_numbers_that_are_too_much(jwts: JwtVerifier, number: bytes) -> None:
    for claim in (b"exp", b"nbf", b"iat", b"sub"):
        rest = json.dumps(claims(**{claim.decode(): None})).encode()[1:]
        reason(jwts, token(ED, b'{"' + claim + b'": ' + number + b", " + rest))


def test_another_claim_may_name_the_principal(tmp_path: Path) -> None:
    jwts = verifier(tmp_path, principal_claim="client_id")
    assert jwts.verify(token(ED, claims(client_id="search")), NOW).principal == "search"
    assert reason(jwts, token(ED)) == "whose claim client_id names no client: None"


def test_the_issuer_settings_count(tmp_path: Path) -> None:
    jwts = verifier(tmp_path, leeway_seconds=0, life_seconds_max=100)
    assert reason(jwts, token(ED, claims(exp=SECONDS))) == "that expired on 2026-03-30 12:00:00 UTC"
    assert reason(jwts, token(ED, claims(iat=SECONDS + 1))).startswith("issued on")
    assert "at most 100 are allowed" in reason(jwts, token(ED, claims(exp=SECONDS + 91)))
    assert jwts.verify(token(ED, claims(exp=SECONDS + 90)), NOW).principal == "app"


def test_each_issuer_has_its_own_keys_and_settings(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    ours, theirs = private_key("EdDSA"), private_key("EdDSA", 1)
    issuers = [
        JwtIssuer(
            issuer=name, audience=AUDIENCE, keys=(folder.write(f"{name}.pem", public_pem(key)),), algorithms=("EdDSA",)
        )
        for name, key in (("a", ours), ("b", theirs))
    ]
    jwts = JwtVerifier.load(issuers, tmp_path)
    assert jwts.verify(token(ours, claims(iss="a", sub="a")), NOW).principal == "a"
    assert jwts.verify(token(theirs, claims(iss="b", sub="b")), NOW).principal == "b"
    with pytest.raises(Refusal) as caught:
        jwts.verify(token(ours, claims(iss="b")), NOW)
    assert caught.value.reason == "sent a JWT of issuer b whose signature is wrong"
    with pytest.raises(ConfigError, match="jwt issuer 'a' is given twice"):
        JwtVerifier.load([issuers[0], issuers[0]], tmp_path)


def test_without_issuers_nothing_is_valid(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="Incorrect API key"):
        JwtVerifier.load([], tmp_path).verify(token(ED), NOW)


def test_a_known_token_is_not_checked_again_and_never_outlives_its_end(
    jwts: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = token(ED, claims(exp=SECONDS + 100))
    jwts.verify(text, NOW)
    checked: list[str] = []
    check = jwt_tokens._signed_payload

    def noted(text: str, issuer: Any) -> bytes:
        checked.append(text)
        return check(text, issuer)

    monkeypatch.setattr(jwt_tokens, "_signed_payload", noted)
    jwts.verify(text, NOW + timedelta(seconds=99.9))
    assert checked == []
    jwts.verify(text, NOW + timedelta(seconds=100))
    assert len(checked) == 1, "within the leeway it is valid, but not from memory"
    with pytest.raises(Refusal, match="Incorrect API key"):
        jwts.verify(text, NOW + timedelta(seconds=160))
    jwts.verify(text, NOW - timedelta(seconds=70))
    assert len(checked) == 3, "before its nbf it is checked again"
    with pytest.raises(Refusal, match="Incorrect API key"):
        jwts.verify(text, NOW - timedelta(seconds=71))


def test_the_memory_is_bounded_and_keeps_who_comes_often(jwts: JwtVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_tokens, "CACHED_MAX", 5)
    often = token(ED)
    for number in range(20):
        jwts.verify(often, NOW)
        jwts.verify(token(ED, claims(jti=str(number))), NOW)
    assert len(jwts._verified) == 5
    monkeypatch.setattr(jwt_tokens, "_signed_payload", None)
    jwts.verify(often, NOW)


def test_what_is_refused_is_not_remembered(jwts: JwtVerifier) -> None:
    reason(jwts, token(private_key("EdDSA", 1)))
    assert not jwts._verified


@pytest.mark.parametrize("text", ["", ".", "a.b", "a..c", "a.b.c.d", "a.b.c\n", " a.b.c", "a.b+.c", "a.b.c=", "ä.b.c"])
def test_what_does_not_look_like_a_token(jwts: JwtVerifier, text: str) -> None:
    assert not looks_like_jwt(text)
    with pytest.raises(Refusal):
        jwts.verify(text, NOW)


@given(st.integers(min_value=0))
def test_an_api_key_never_looks_like_a_token(seed: int) -> None:
    for kind in ("sk", "adm"):
        key = ApiKey.generate(kind, lambda bits: seed % 2**bits)
        assert not looks_like_jwt(key.reveal())


def test_a_token_has_a_size(jwts: JwtVerifier) -> None:
    text = token(ED, claims(padding="x" * 8000))
    assert looks_like_jwt(text)
    with pytest.raises(Refusal) as caught:
        jwts.verify(text, NOW)
    assert caught.value.reason == f"sent a JWT of {len(text)} characters; at most 8192 are allowed"
