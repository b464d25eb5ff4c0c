"""appliance.model_store.signing"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from appliance.errors import ChangeRefused, ConfigError
from appliance.model_store.signing import Signer, parse_signing_key, signer_of
from tests.unit.model_store.conftest import signer

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def test_who_signed() -> None:
    keys = [signer(OTHER, "other"), signer(KEY)]
    found = signer_of(keys, b"list", KEY.sign(b"list"))
    assert (found.name, len(found.fingerprint)) == ("release", 64)


def test_who_did_not() -> None:
    for keys, signature, reason in (
        ([], KEY.sign(b"list"), "models.signers in appliance.yaml names no key"),
        ([signer(OTHER, "other")], KEY.sign(b"list"), r"not by a key of models.signers \(other\)"),
        ([signer(KEY)], KEY.sign(b"list "), "or the list was changed"),
        ([signer(KEY)], b"short", "has 5 bytes"),
    ):
        with pytest.raises(ChangeRefused, match=reason):
            signer_of(keys, b"list", signature)


def test_keys_of_another_kind() -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    public = elliptic.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="no Ed25519 key"):
        Signer.parse("x", public)
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for wrong in (b"", b"hello", private):
        with pytest.raises(ValueError, match="no public key in PEM"):
            Signer.parse("x", wrong)
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        parse_signing_key(elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), None)


def test_a_signing_key_with_and_without_a_passphrase() -> None:
    plain = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert parse_signing_key(plain, None).sign(b"x") == KEY.sign(b"x")
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(TypeError):
        parse_signing_key(locked, None)
    assert parse_signing_key(locked, b"secret").sign(b"x") == KEY.sign(b"x")
    with pytest.raises(ConfigError, match="the passphrase is wrong"):
        parse_signing_key(locked, b"wrong")
