"""Tokens that nobody issued: each is refused, with one sentence to the client and the exact reason to the operator."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.access_config import JwtIssuer
from appliance.security.jwt_tokens import JwtVerifier
from appliance.security.refusal import INCORRECT_KEY, Refusal
from tests.security.tokens import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    NOW,
    KeyFolder,
    algorithm_of,
    b64,
    claims,
    hs256_token,
    jwk,
    private_key,
    public_pem,
    sign,
    token,
)

# One verifier for all examples of a test.
ONE_VERIFIER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ED, EC, RSA = (private_key(algorithm) for algorithm in ALGORITHMS)
STRANGER = {algorithm: private_key(algorithm, 1) for algorithm in ALGORITHMS}


@pytest.fixture
def jwts(tmp_path: Path) -> JwtVerifier:
    folder = KeyFolder(tmp_path)
    jwks = folder.jwks("set.json", jwk(ED, kid="2026-a"), jwk(EC, kid="2026-b"))
    pem = folder.write("rsa-key.pem", public_pem(RSA))
    settings = JwtIssuer(issuer=ISSUER, audience=AUDIENCE, keys=(jwks, pem), algorithms=ALGORITHMS)
    return JwtVerifier.load([settings], tmp_path)


def parts(text: str) -> list[str]:
    return text.split(".")


def unsigned(algorithm: Any, signature: str = "") -> str:
    header = b64(json.dumps({"alg": algorithm}).encode())
    return f"{header}.{b64(json.dumps(claims()).encode())}.{signature}"


def with_payload(text: str, **changed: Any) -> str:
    header, _, signature = parts(text)
    return f"{header}.{b64(json.dumps(claims(**changed)).encode())}.{signature}"


def with_header(text: str, **changed: Any) -> str:
    header, payload, signature = parts(text)
    head = json.loads(base64.urlsafe_b64decode(header + "=="))
    return f"{b64(json.dumps(head | changed).encode())}.{payload}.{signature}"


def malleable(text: str) -> str:
    """The same signature written with other last bits: its 64 bytes leave four of them unused."""
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(text[-1])
    return text[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1]


def der_signature() -> str:
    """ECDSA as X.509 writes it and JWS does not."""
    assert isinstance(EC, ec.EllipticCurvePrivateKey)
    signed = token(EC).rpartition(".")[0]
    return f"{signed}.{b64(EC.sign(signed.encode(), ec.ECDSA(SHA256())))}"


FORGED: dict[str, tuple[Callable[[], str], str]] = {
    "none": (lambda: unsigned("none"), "signed with 'none', which is not among the algorithms"),
    "None": (lambda: unsigned("None"), "signed with 'None', which"),
    "none with a signature": (lambda: unsigned("none", parts(token(ED))[2]), "signed with 'none', which"),
    "no algorithm": (lambda: unsigned(None), "signed with None, which"),
    "empty algorithm": (lambda: unsigned(""), "signed with '', which"),
    "list of algorithms": (lambda: unsigned(["EdDSA"]), "signed with <list>, which"),
    "no signature": (lambda: token(ED).rpartition(".")[0] + ".", "whose signature is wrong"),
    "public pem as secret": (lambda: hs256_token(public_pem(RSA)), "signed with 'HS256', which"),
    "public pem as secret, stripped": (lambda: hs256_token(public_pem(EC).strip()), "signed with 'HS256', which"),
    "public key bytes as secret": (
        lambda: hs256_token(base64.urlsafe_b64decode(jwk(ED)["x"] + "=")),
        "signed with 'HS256', which",
    ),
    "hmac named rsa": (lambda: hs256_token(public_pem(RSA), {"alg": "RS256"}), "whose signature is wrong"),
    "hmac named ed25519": (lambda: hs256_token(public_pem(ED), {"alg": "EdDSA"}), "whose signature is wrong"),
    "ed25519 named es256": (lambda: token(ED, header={"alg": "ES256"}), "whose signature is wrong"),
    "es256 named ed25519": (lambda: token(EC, header={"alg": "EdDSA"}), "whose signature is wrong"),
    "rsa-pss": (lambda: token(RSA, header={"alg": "PS256"}), "signed with 'PS256', which"),
    "rs512": (lambda: token(RSA, header={"alg": "RS512"}), "signed with 'RS512', which"),
    "wrong key ed25519": (lambda: token(STRANGER["EdDSA"]), "whose signature is wrong"),
    "wrong key es256": (lambda: token(STRANGER["ES256"]), "whose signature is wrong"),
    "wrong key rs256": (lambda: token(STRANGER["RS256"]), "whose signature is wrong"),
    "wrong key with the right id": (
        lambda: token(STRANGER["EdDSA"], header={"kid": "2026-a"}),
        "whose signature is wrong",
    ),
    "changed payload": (lambda: with_payload(token(ED), sub="root"), "whose signature is wrong"),
    "changed end": (lambda: with_payload(token(RSA), exp=10**10), "whose signature is wrong"),
    "changed header": (lambda: with_header(token(ED), typ="at+jwt"), "whose signature is wrong"),
    "cut signature": (lambda: token(ED)[:-2], "whose signature is wrong"),
    "zero signature es256": (lambda: token(EC).rpartition(".")[0] + "." + b64(bytes(64)), "whose signature is wrong"),
    "zero signature ed25519": (lambda: token(ED).rpartition(".")[0] + "." + b64(bytes(64)), "whose signature is wrong"),
    "der signature": (der_signature, "whose signature is wrong"),
    "other bits behind the signature": (lambda: malleable(token(ED)), "that is malformed (Invalid crypto padding)"),
    "unknown key id": (lambda: token(ED, header={"kid": "2025"}), "signed with the unknown key '2025' for EdDSA"),
    "key id of another algorithm": (
        lambda: token(ED, header={"kid": "2026-b"}),
        "signed with the unknown key '2026-b' for EdDSA",
    ),
    "key id is a path": (
        lambda: token(ED, header={"kid": "../../../../dev/null"}),
        "signed with the unknown key '../../../../dev/null' for EdDSA",
    ),
    "key id is a file": (
        lambda: token(RSA, header={"kid": "rsa-key.pem"}),
        "signed with the unknown key 'rsa-key.pem' for RS256",
    ),
    "key id is a query": (
        lambda: token(ED, header={"kid": "' UNION SELECT 'x"}),
        "signed with the unknown key \"' UNION SELECT 'x\" for EdDSA",
    ),
    "key id is no text": (
        lambda: token(ED, header={"kid": ["2026-a"]}),
        "signed with the unknown key <list> for EdDSA",
    ),
    "key id is null": (lambda: token(ED, header={"kid": None}), "signed with the unknown key None for EdDSA"),
    "own key in the header": (
        lambda: token(STRANGER["EdDSA"], header={"jwk": jwk(STRANGER["EdDSA"])}),
        "whose signature is wrong",
    ),
    "own key with its id": (
        lambda: token(STRANGER["EdDSA"], header={"jwk": jwk(STRANGER["EdDSA"], kid="x"), "kid": "x"}),
        "signed with the unknown key 'x' for EdDSA",
    ),
    "own key set by address": (
        lambda: token(STRANGER["RS256"], header={"jku": "https://evil.example/keys.json"}),
        "whose signature is wrong",
    ),
    "own certificate": (
        lambda: token(STRANGER["RS256"], header={"x5c": ["AAAA"], "x5u": "file:///etc/passwd"}),
        "whose signature is wrong",
    ),
    "crit": (lambda: token(ED, header={"crit": ["exp"], "exp": 1}), "with the header crit, which is not supported"),
    "empty crit": (lambda: token(ED, header={"crit": []}), "with the header crit"),
    "unencoded payload": (lambda: token(ED, header={"crit": ["b64"], "b64": False}), "with the header crit"),
    "unencoded payload without crit": (lambda: token(ED, header={"b64": False}), "that is malformed"),
    "payload is a list": (lambda: token(ED, b"[1]"), "whose payload is no JSON object"),
    "payload is no json": (lambda: token(ED, b"{iss}"), "whose payload is no JSON object"),
    "payload is no utf-8": (lambda: token(ED, b'{"iss": "\xff"}'), "whose payload is no JSON object"),
    "header is a list": (lambda: f"{b64(b'[]')}.{parts(token(ED))[1]}.AAAA", "whose header is no JSON object"),
    "header is no base64url": (lambda: f"A.{parts(token(ED))[1]}.AAAA", "that is no base64url"),
    "two payloads in one": (
        lambda: token(STRANGER["EdDSA"], json.dumps(claims()).encode()[:-1] + b', "iss": "' + ISSUER.encode() + b'"}'),
        "whose signature is wrong",
    ),
    "wrong issuer": (lambda: token(ED, claims(iss=ISSUER + "/")), f"of the unknown issuer '{ISSUER}/'"),
    "issuer in other letters": (lambda: token(ED, claims(iss=ISSUER.upper())), "of the unknown issuer"),
    "no issuer": (lambda: token(ED, claims(iss=None)), "of the unknown issuer None"),
    "list of issuers": (lambda: token(ED, claims(iss=[ISSUER])), "of the unknown issuer <list>"),
    "wrong audience": (lambda: token(ED, claims(aud="another-service")), "for the audience 'another-service'"),
    "expired": (lambda: token(ED, claims(exp=int(NOW.timestamp()) - 61)), "that expired on"),
    "far future": (lambda: token(ED, claims(nbf=10**11)), "that is not valid before 5138"),
    "no end": (lambda: token(ED, claims(exp=None)), "that never expires"),
    "lines for the log": (
        lambda: token(ED, claims(iss="x\nroot logged in\x1b[2J")),
        "of the unknown issuer 'x\\\\x0aroot logged in\\\\x1b[2J'",
    ),
}


def refusal(jwts: JwtVerifier, text: str) -> str:
    with pytest.raises(Refusal) as caught:
        jwts.verify(text, NOW)
    assert (caught.value.code, caught.value.message) == ("invalid_api_key", INCORRECT_KEY)
    assert caught.value.status == 401
    return caught.value.reason.removeprefix("sent a JWT ").removeprefix(f"of issuer {ISSUER} ")


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_token_is_refused(jwts: JwtVerifier, case: str) -> None:
    forge, fault = FORGED[case]
    assert refusal(jwts, forge()).startswith(fault)


@pytest.mark.parametrize(
    ("key", "header"),
    [
        (ED, {}),
        (ED, {"kid": "2026-a"}),
        (EC, {"kid": "2026-b"}),
        (RSA, {"kid": "rsa-key"}),
        (ED, {"jwk": jwk(STRANGER["EdDSA"]), "jku": "https://evil.example/", "x5u": "file:///etc/passwd"}),
        (ED, {"typ": "at+jwt"}),
    ],
)
def test_what_a_header_may_say(jwts: JwtVerifier, key: Any, header: dict[str, Any]) -> None:
    """Keys that a token brings along mean nothing, whether they would fit or not."""
    assert jwts.verify(token(key, header=header), NOW).principal == "app"


def test_an_algorithm_that_is_not_allowed_is_refused_for_a_good_key_too(tmp_path: Path) -> None:
    name = KeyFolder(tmp_path).write("key.pem", public_pem(ED))
    settings = JwtIssuer(issuer=ISSUER, audience=AUDIENCE, keys=(name,), algorithms=("EdDSA",))
    jwts = JwtVerifier.load([settings], tmp_path)
    assert refusal(jwts, token(EC)) == "signed with 'ES256', which is not among the algorithms"


@settings(ONE_VERIFIER)
@given(st.data())
def test_no_changed_byte_passes(jwts: JwtVerifier, data: st.DataObject) -> None:
    text = token(data.draw(st.sampled_from([ED, EC, RSA])))
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.sampled_from("Aa0-_.=é ")) + text[place + 1 :]
    if changed != text:
        refusal(jwts, changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "zip"]), JSON)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "jti"]), JSON, min_size=1)


@settings(ONE_VERIFIER, max_examples=25)
@given(HEADERS, CLAIMS)
def test_whatever_is_signed_is_accepted_or_refused_and_nothing_else(
    jwts: JwtVerifier, header: dict[str, Any], changed: dict[str, Any]
) -> None:
    """Odd headers and claims under a good signature raise nothing but Refusal."""
    for text in (token(ED, claims(**changed)), token(ED, claims(), header), token(ED, claims(**changed), header)):
        try:
            jwts.verify(text, NOW)
        except Refusal as error:
            assert error.message == INCORRECT_KEY


@settings(deadline=None)
@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=70))
def test_junk_in_three_parts(header: bytes, payload: bytes, signature: bytes) -> None:
    with pytest.raises(Refusal):
        JwtVerifier({}).verify(f"{b64(header)}.{b64(payload)}.{b64(signature)}", NOW)


def test_our_means_of_forging_make_good_tokens() -> None:
    """An independent check: the library itself accepts what `token` makes."""
    for key in (ED, EC, RSA):
        payload = jwt.PyJWS().decode(token(key), key.public_key(), algorithms=[algorithm_of(key)])
        assert json.loads(payload) == claims()
        assert len(sign(key, b"x")) in (64, 256)
