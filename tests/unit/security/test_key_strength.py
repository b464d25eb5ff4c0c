"""appliance.security.key_strength"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, x25519

from appliance.security.key_strength import AUTHORITY_CURVES, key_fault, signature_fault
from tests.security.authorities import ForeignCa, own_ca, rsa_key


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa_key(2048),
    ],
    ids=["P-256", "P-384", "Ed25519", "RSA 2048"],
)
def test_strong_keys(key: ec.EllipticCurvePrivateKey) -> None:
    assert key_fault(key.public_key()) is None


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (rsa_key(1024), "RSA key of 1024 bits; 2048 is the least"),
        (rsa_key(2048, 3), "exponent 3"),
        (ec.generate_private_key(ec.SECP224R1()), "curve secp224r1"),
        (ec.generate_private_key(ec.SECP256K1()), "curve secp256k1"),
        (ec.generate_private_key(ec.SECP521R1()), "curve secp521r1"),
        (ed448.Ed448PrivateKey.generate(), "unknown kind"),
        (x25519.X25519PrivateKey.generate(), "unknown kind"),
        (dsa.generate_private_key(1024), "unknown kind"),
    ],
)
def test_weak_and_unknown_keys(key: ec.EllipticCurvePrivateKey, fault: str) -> None:
    assert fault in str(key_fault(key.public_key()))
    assert key_fault(None) is not None


def test_an_authority_may_have_a_larger_curve() -> None:
    assert key_fault(ec.generate_private_key(ec.SECP521R1()).public_key(), AUTHORITY_CURVES) is None


def test_signatures() -> None:
    assert signature_fault(own_ca("CA").certificate) is None
    assert signature_fault(ForeignCa(key=ed25519.Ed25519PrivateKey.generate()).certificate) is None
    assert signature_fault(ForeignCa(key=rsa_key(), digest=hashes.SHA384()).certificate) is None
    assert "SHA224" in str(signature_fault(ForeignCa(digest=hashes.SHA224()).certificate))
