"""appliance.keyring.credential_kek"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ConfigError
from appliance.keyring.credential_kek import CredentialKek, parse_key

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS)
def test_three_forms_are_one_key(key: bytes) -> None:
    forms = (key, key.hex().encode(), key.hex().upper().encode() + b"\n", base64.b64encode(key) + b"\r\n")
    assert {parse_key(form) for form in forms} == {key}


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33, b"x" * 64, b"=" * 44, b"A" * 44, b"correct horse battery"])
def test_anything_else_is_none(data: bytes) -> None:
    assert parse_key(data) is None


def test_it_comes_from_the_credentials_directory(tmp_path: Path) -> None:
    (tmp_path / "appliance-kek").write_bytes(b"k" * 32)
    kek = CredentialKek.open("appliance-kek", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert kek.id.startswith("appliance-kek:")
    assert kek.unwrap(kek.wrap(b"x", b"c"), b"c") == b"x"


def test_a_credential_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "appliance-kek").write_bytes(b"my passphrase")
    with pytest.raises(ConfigError, match="must be 32 random bytes") as caught:
        CredentialKek.open("appliance-kek", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "my passphrase" not in str(caught.value)
