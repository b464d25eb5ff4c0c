"""appliance.security.private_keys"""

from __future__ import annotations

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.private_keys import key_der, key_from_der, key_pem, new_key
from tests.security.authorities import openssl, rsa_key


def test_there_and_back() -> None:
    key = new_key()
    assert key_from_der(key_der(key)).private_numbers() == key.private_numbers()
    again = load_pem_private_key(key_pem(key), None)
    assert isinstance(again, ec.EllipticCurvePrivateKey)
    assert again.private_numbers() == key.private_numbers()


def test_openssl_reads_the_text() -> None:
    status, output = openssl("pkey", "-noout", "-check", "-text", stdin=key_pem(new_key()))
    assert status == 0
    assert "Key is valid" in output
    assert "NIST CURVE: P-256" in output


def test_other_kinds_of_keys_are_refused() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate(), rsa_key()):
        with pytest.raises(ValueError, match="no private key of kind"):
            key_from_der(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def test_an_encrypted_key_is_refused() -> None:
    data = new_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(ValueError, match="no readable private key"):
        key_from_der(data)


KEY = key_der(new_key())


@given(st.integers(0, len(KEY) - 1), st.integers(0, 255))
def test_damage_is_a_value_error_or_another_key(place: int, byte: int) -> None:
    data = bytearray(KEY)
    data[place] = byte
    with contextlib.suppress(ValueError):
        key_from_der(bytes(data))
    with pytest.raises(ValueError, match="is no"):
        key_from_der(KEY[:place])
