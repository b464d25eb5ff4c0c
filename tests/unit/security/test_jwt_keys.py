"""appliance.security.jwt_keys"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.access_config import JwtIssuer
from appliance.errors import ConfigError
from appliance.security.jwt_keys import FILE_BYTES_MAX, KEYS_MAX, issuer_keys
from tests.security.tokens import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    KeyFolder,
    b64,
    jwk,
    private_key,
    private_pem,
    public_pem,
)

ED, EC, RSA = (private_key(algorithm) for algorithm in ALGORITHMS)


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path)


def issuer(*keys: str, algorithms: tuple[Any, ...] = ALGORITHMS) -> JwtIssuer:
    return JwtIssuer(issuer=ISSUER, audience=AUDIENCE, keys=keys, algorithms=algorithms)


def spki(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def test_pem_and_jwks_say_the_same(folder: KeyFolder) -> None:
    names = [folder.write(f"{algorithm}.pem", public_pem(private_key(algorithm))) for algorithm in ALGORITHMS]
    jwks = folder.jwks("set.json", *(jwk(private_key(algorithm), kid=algorithm) for algorithm in ALGORITHMS))
    from_pem, from_jwks = issuer_keys(issuer(*names), folder.path), issuer_keys(issuer(jwks), folder.path)
    assert [(key.id, key.algorithm) for key in from_pem] == [(name, name) for name in ALGORITHMS]
    assert [(key.id, key.algorithm, key.key) for key in from_pem] == [
        (key.id, key.algorithm, key.key) for key in from_jwks
    ]


def test_keys_for_encryption_are_passed_over(folder: KeyFolder) -> None:
    name = folder.jwks("set.json", jwk(RSA, use="enc", alg="RSA-OAEP"), jwk(ED, use="sig", alg="EdDSA"))
    (key,) = issuer_keys(issuer(name, algorithms=("EdDSA",)), folder.path)
    assert key.id is None


BAD_PEM: dict[str, tuple[Callable[[], bytes], str]] = {
    "private key": (lambda: private_pem(ED), "holds a private key"),
    "both": (lambda: public_pem(ED) + private_pem(ED), "holds a private key"),
    "two keys": (lambda: public_pem(ED) + public_pem(EC), "is neither one PEM public key nor a JWKS"),
    "certificate": (lambda: b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "holds a certificate"),
    "nothing": (lambda: b"", "is neither one PEM public key nor a JWKS"),
    "junk": (lambda: b"\xff\x00", "is neither one PEM public key nor a JWKS"),
    "broken": (lambda: public_pem(ED)[:60] + b"\n-----END PUBLIC KEY-----\n", "holds no readable public key"),
    "short rsa": (lambda: spki(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits"),
    "p-384": (lambda: spki(ec.generate_private_key(ec.SECP384R1())), "unsupported curve secp384r1"),
    "secp256k1": (lambda: spki(ec.generate_private_key(ec.SECP256K1())), "unsupported curve secp256k1"),
    "ed448": (lambda: spki(ed448.Ed448PrivateKey.generate()), "unsupported kind"),
    "dsa": (lambda: spki(dsa.generate_private_key(1024)), "unsupported kind"),
    "huge": (lambda: public_pem(ED) + b"\n" * FILE_BYTES_MAX, f"is larger than {FILE_BYTES_MAX} bytes"),
}


@pytest.mark.parametrize("case", BAD_PEM)
def test_pem_files_that_are_refused(folder: KeyFolder, case: str) -> None:
    data, fault = BAD_PEM[case]
    name = folder.write("key.pem", data())
    with pytest.raises(ConfigError) as caught:
        issuer_keys(issuer(name), folder.path)
    assert str(caught.value).startswith(f"{folder.path / name}: jwt issuer '{ISSUER}': ")
    assert fault in str(caught.value)


BAD_JWKS: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "no key": (list, "holds no key for signatures"),
    "only encryption": (lambda: [jwk(RSA, use="enc")], "holds no key for signatures"),
    "no kty": (lambda: [{"kid": "x"}], "is no JWKS"),
    "symmetric": (lambda: [{"kty": "oct", "k": b64(bytes(32))}], "keys[0] is a symmetric key"),
    "hidden symmetric": (lambda: [jwk(ED, k=b64(bytes(32)))], "keys[0] is a symmetric key"),
    "private": (lambda: [jwk(ED, d=b64(bytes(32)), kid="x")], "key 'x' is a private key"),
    "private for encryption": (lambda: [jwk(RSA, d=b64(bytes(32)), use="enc")], "keys[0] is a private key"),
    "prime": (lambda: [jwk(RSA, p=b64(bytes(32)))], "keys[0] is a private key"),
    "second": (lambda: [jwk(ED), jwk(EC, y=None)], "keys[1]: has no y"),
    "p-384": (lambda: [jwk(EC, crv="P-384")], "unsupported kind of key (EC P-384)"),
    "no curve": (lambda: [jwk(EC, crv=None)], "unsupported kind of key (EC)"),
    "x25519": (lambda: [jwk(ED, crv="X25519")], "unsupported kind of key (OKP X25519)"),
    "unknown": (lambda: [{"kty": "AKP\n"}], "unsupported kind of key (AKP\\x0a)"),
    "other algorithm": (lambda: [jwk(RSA, alg="PS256")], "is for PS256, which is not supported"),
    "none": (lambda: [jwk(ED, alg="none")], "is for none, which is not supported"),
    "off the curve": (lambda: [jwk(EC, y=b64(bytes(32)))], "keys[0]"),
    "short x": (lambda: [jwk(ED, x=b64(bytes(31)))], "keys[0]"),
    "no base64url": (lambda: [jwk(ED, x="!" * 43)], "x is no base64url"),
    "short rsa": (lambda: [jwk(RSA, n=b64(b"\xff" * 128))], "an RSA key of 1024 bits"),
    "long rsa": (lambda: [jwk(RSA, n=b64(b"\xff" * 1100))], "an RSA key of 8800 bits"),
    "exponent 1": (lambda: [jwk(RSA, e=b64(b"\x01"))], "keys[0]"),
    "exponent 3": (lambda: [jwk(RSA, e=b64(b"\x03"))], "keys[0]: has an RSA key with the exponent 3"),
    "long kid": (lambda: [jwk(ED, kid="x" * 1000)], "is no JWKS"),
    "two of one id": (lambda: [jwk(ED, kid="x"), jwk(EC, kid="x"), jwk(RSA)], "two keys with the id 'x'"),
    "too many": (lambda: [jwk(ED)] * KEYS_MAX + [jwk(EC), jwk(RSA)], f"at most {KEYS_MAX} are allowed"),
    "none for rsa": (lambda: [jwk(ED), jwk(EC)], "has no key for RS256; add one, or take RS256 out of algorithms"),
}


@pytest.mark.parametrize("case", BAD_JWKS)
def test_jwks_files_that_are_refused(folder: KeyFolder, case: str) -> None:
    keys, fault = BAD_JWKS[case]
    name = folder.jwks("set.json", *keys())
    with pytest.raises(ConfigError) as caught:
        issuer_keys(issuer(name), folder.path)
    assert f"jwt issuer '{ISSUER}': " in str(caught.value)
    assert fault in str(caught.value)
    assert "set.json" in str(caught.value) or "key" in fault or str(KEYS_MAX) in fault


@pytest.mark.parametrize("data", [b"{", b'{"keys": 5}', b"{}", b'{"keys": [' + b"[" * 50_000])
def test_what_is_no_jwks(folder: KeyFolder, data: bytes) -> None:
    with pytest.raises(ConfigError, match="is no JWKS"):
        issuer_keys(issuer(folder.write("set.json", data)), folder.path)


def test_a_key_that_no_algorithm_uses_is_refused(folder: KeyFolder) -> None:
    name = folder.jwks("set.json", jwk(ED), jwk(RSA, kid="rsa"))
    with pytest.raises(ConfigError, match=r"key 'rsa' is for RS256, which is not among the algorithms \(EdDSA\)"):
        issuer_keys(issuer(name, algorithms=("EdDSA",)), folder.path)


def test_files_that_are_missing_or_loose(folder: KeyFolder) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        issuer_keys(issuer("missing.pem"), folder.path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        issuer_keys(issuer("."), folder.path)
    os.mkfifo(folder.path / "fifo")
    with pytest.raises(ConfigError, match="is not a regular file"):
        issuer_keys(issuer("fifo"), folder.path)
    name = folder.write("key.pem", public_pem(ED))
    (folder.path / name).chmod(0o664)
    with pytest.raises(ConfigError, match=r"can be changed by other users \(mode 0664\)"):
        issuer_keys(issuer(name), folder.path)


def test_a_file_of_another_user(folder: KeyFolder) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make one")
    name = folder.write("key.pem", public_pem(ED))
    os.chown(folder.path / name, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to another user"):
        issuer_keys(issuer(name), folder.path)
