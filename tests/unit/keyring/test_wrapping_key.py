"""appliance.keyring.wrapping_key"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.keyring.wrapping_key import WrappingKey

KEY = WrappingKey(b"k" * 32)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_what_it_wraps_it_unwraps(plaintext: bytes, context: bytes) -> None:
    assert KEY.unwrap(KEY.wrap(plaintext, context), context) == plaintext


@given(st.binary(max_size=100))
def test_anything_else_is_none(wrapped: bytes) -> None:
    assert KEY.unwrap(wrapped, b"context") is None


def test_key_and_context_count() -> None:
    wrapped = KEY.wrap(b"plain", b"context")
    assert KEY.unwrap(wrapped, b"other") is None
    assert WrappingKey(b"l" * 32).unwrap(wrapped, b"context") is None


def test_it_prints_no_secret() -> None:
    assert repr(KEY) == f"WrappingKey({KEY.fingerprint})"
    assert KEY.fingerprint != WrappingKey(b"l" * 32).fingerprint
