"""The public keys of token issuers: PEM and JWKS files, checked before anybody is admitted by them.

Whatever is in a file is used or refused with its reason, so that nobody believes in a key that does not count. Only
keys of a JWKS that are marked for encryption (`use: enc`) are passed over.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Meta, Struct

from appliance.access_config import JwtIssuer
from appliance.errors import ConfigError
from appliance.safe_text import safe_text
from appliance.security.key_strength import key_fault
from appliance.security.trusted_file import read_trusted

FILE_BYTES_MAX: Final = 64 * 1024
# A token without a key id is tried with each key of its algorithm.
KEYS_MAX: Final = 16
_KEY_ID_CHARS_MAX: Final = 256

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One key and the only algorithm it is used with. id: the `kid` of a JWK, the name of a PEM file without suffix."""

    id: str | None
    algorithm: str
    key: PublicKey


class _Jwk(Struct, frozen=True, kw_only=True):
    """A key as RFC 7517 writes it. Members that are in private and symmetric keys only are here to be refused."""

    kty: str
    kid: Annotated[str, Meta(min_length=1, max_length=_KEY_ID_CHARS_MAX)] | None = None
    use: str | None = None
    alg: str | None = None
    crv: str | None = None
    x: str | None = None
    y: str | None = None
    n: str | None = None
    e: str | None = None
    d: Any = None
    k: Any = None
    p: Any = None
    q: Any = None


class _Jwks(Struct, frozen=True):
    keys: list[_Jwk]


def issuer_keys(issuer: JwtIssuer, folder: Path) -> tuple[IssuerKey, ...]:
    """The keys in an issuer's files, relative to `folder`. Raises ConfigError that names issuer and file."""
    keys: list[IssuerKey] = []
    for name in issuer.keys:
        path = folder / name
        try:
            found = _keys_in(path)
            _check_allowed(found, issuer)
        except ValueError as error:
            raise _refusal(issuer, str(error), path) from None
        keys += found
    if len(keys) > KEYS_MAX:
        raise _refusal(issuer, f"has {len(keys)} keys; at most {KEYS_MAX} are allowed")
    ids = [key.id for key in keys if key.id is not None]
    if len(ids) != len(set(ids)):
        twice = next(key_id for key_id in ids if ids.count(key_id) > 1)
        raise _refusal(issuer, f"has two keys with the id {safe_text(twice)!r}; rename or remove one")
    for algorithm in issuer.algorithms:
        if not any(key.algorithm == algorithm for key in keys):
            raise _refusal(issuer, f"has no key for {algorithm}; add one, or take {algorithm} out of algorithms")
    return tuple(keys)


def _refusal(issuer: JwtIssuer, fault: str, path: Path | None = None) -> ConfigError:
    return ConfigError(f"jwt issuer {safe_text(issuer.issuer)!r}: {fault}", path=path)


def _check_allowed(keys: list[IssuerKey], issuer: JwtIssuer) -> None:
    for key in keys:
        if key.algorithm not in issuer.algorithms:
            raise ValueError(
                f"key {key.id!r} is for {key.algorithm}, which is not among the algorithms "
                f"({', '.join(issuer.algorithms)}); add it there, or remove the key"
            )


def _keys_in(path: Path) -> list[IssuerKey]:
    """Every key of one file. Raises ValueError: the fault."""
    data = read_trusted(path, FILE_BYTES_MAX)
    if b"PRIVATE KEY" in data:
        raise ValueError("holds a private key; only the issuer may have it. Put the public key here")
    if data.lstrip()[:1] == b"{":
        return _in_jwks(data)
    return [_in_pem(data, path.stem)]


def _in_pem(data: bytes, name: str) -> IssuerKey:
    if b"BEGIN CERTIFICATE" in data:
        raise ValueError("holds a certificate; write its key here: `openssl x509 -in FILE -pubkey -noout`")
    if data.count(b"-----BEGIN") != 1:
        raise ValueError("is neither one PEM public key nor a JWKS")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no readable public key") from None
    if isinstance(key, Ed25519PublicKey):
        return IssuerKey(name, "EdDSA", key)
    if isinstance(key, EllipticCurvePublicKey):
        return IssuerKey(name, "ES256", _checked_curve(key))
    if isinstance(key, RSAPublicKey):
        return IssuerKey(name, "RS256", _checked_rsa(key))
    raise ValueError(f"holds a key of an unsupported kind ({type(key).__name__}); use Ed25519, P-256 or RSA")


def _in_jwks(data: bytes) -> list[IssuerKey]:
    try:
        keys = msgspec.json.decode(data, type=_Jwks).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is no JWKS ({error})") from None
    found = []
    for number, jwk in enumerate(keys):
        name = f"keys[{number}]" if jwk.kid is None else f"key {safe_text(jwk.kid)!r}"
        if jwk.kty == "oct" or jwk.k is not None:
            raise ValueError(f"{name} is a symmetric key: whoever checks tokens with it can make them too")
        if any(part is not None for part in (jwk.d, jwk.p, jwk.q)):
            raise ValueError(f"{name} is a private key; only the issuer may have it. Put the public key here")
        if jwk.use == "enc":
            continue
        try:
            found.append(_in_jwk(jwk))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if not found:
        raise ValueError("holds no key for signatures")
    return found


def _in_jwk(jwk: _Jwk) -> IssuerKey:
    kind = jwk.kty if jwk.crv is None else f"{jwk.kty} {jwk.crv}"
    known = _JWK_KINDS.get(kind)
    if known is None:
        raise ValueError(f"unsupported kind of key ({safe_text(kind)}); use OKP Ed25519, EC P-256 or RSA")
    algorithm, build = known
    if jwk.alg is not None and jwk.alg != algorithm:
        raise ValueError(f"is for {safe_text(jwk.alg)}, which is not supported; keys of this kind are for {algorithm}")
    return IssuerKey(jwk.kid, algorithm, build(jwk))


def _ed25519(jwk: _Jwk) -> PublicKey:
    return Ed25519PublicKey.from_public_bytes(_bytes_of(jwk.x, "x"))


def _p256(jwk: _Jwk) -> PublicKey:
    x, y = _bytes_of(jwk.x, "x"), _bytes_of(jwk.y, "y")
    return EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1()).public_key()


def _rsa(jwk: _Jwk) -> PublicKey:
    n, e = _bytes_of(jwk.n, "n"), _bytes_of(jwk.e, "e")
    return _checked_rsa(RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n)).public_key())


_JWK_KINDS: Final[Mapping[str, tuple[str, Callable[[_Jwk], PublicKey]]]] = {
    "OKP Ed25519": ("EdDSA", _ed25519),
    "EC P-256": ("ES256", _p256),
    "RSA": ("RS256", _rsa),
}


def _bytes_of(text: str | None, member: str) -> bytes:
    """RFC 7515's base64url, without padding."""
    if not text:
        raise ValueError(f"has no {member}")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError:
        raise ValueError(f"{member} is no base64url") from None


def _checked_curve(key: EllipticCurvePublicKey) -> EllipticCurvePublicKey:
    if not isinstance(key.curve, SECP256R1):
        raise ValueError(f"holds a key on the unsupported curve {key.curve.name}; use P-256")
    return key


def _checked_rsa(key: RSAPublicKey) -> RSAPublicKey:
    if (fault := key_fault(key)) is not None:
        raise ValueError(fault)
    return key
