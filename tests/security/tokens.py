"""An issuer of JSON Web Tokens with real keys, and the means to forge what it would not issue."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
ISSUER = "https://sso.example.org/realm"
AUDIENCE = "llm-appliance"
ALGORITHMS: tuple[Literal["EdDSA", "ES256", "RS256"], ...] = ("EdDSA", "ES256", "RS256")

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def private_key(algorithm: str, number: int = 0) -> PrivateKey:
    """One of several keys of an algorithm; the same at each call, because RSA keys take long to make."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says; a change to None leaves the claim out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "app",
        "iat": SECONDS - 10,
        "nbf": SECONDS - 10,
        "exp": SECONDS + 3600,
        "jti": "token-1",
    }
    return {name: value for name, value in (good | changed).items() if value is not None}


def token(
    key: PrivateKey, payload: Mapping[str, Any] | bytes | None = None, header: Mapping[str, Any] | None = None
) -> str:
    """A token signed with `key`, whatever its header says."""
    head = {"typ": "JWT", "alg": algorithm_of(key)} | dict(header or {})
    body = payload if isinstance(payload, bytes) else json.dumps(claims() if payload is None else payload).encode()
    signed = f"{b64(json.dumps(head).encode())}.{b64(body)}"
    return f"{signed}.{b64(sign(key, signed.encode()))}"


def algorithm_of(key: PrivateKey) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"


def sign(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)
    return key.sign(data, PKCS1v15(), SHA256())


def hs256_token(secret: bytes, header: Mapping[str, Any] | None = None) -> str:
    """A token that takes the public key for a shared secret."""
    head = {"typ": "JWT", "alg": "HS256"} | dict(header or {})
    signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims()).encode())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def jwk(key: PrivateKey, **more: Any) -> dict[str, Any]:
    """The public key as RFC 7517 writes it."""
    public = key.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)} | more
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": b64(point.x.to_bytes(32)), "y": b64(point.y.to_bytes(32))} | more
    numbers = public.public_numbers()
    return {"kty": "RSA", "n": b64(numbers.n.to_bytes(256)), "e": b64(numbers.e.to_bytes(3))} | more


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """Where an operator keeps the issuers' keys."""

    path: Path

    def write(self, name: str, data: bytes) -> str:
        (self.path / name).write_bytes(data)
        (self.path / name).chmod(0o644)
        return name

    def jwks(self, name: str, *keys: Mapping[str, Any]) -> str:
        return self.write(name, json.dumps({"keys": keys}).encode())
