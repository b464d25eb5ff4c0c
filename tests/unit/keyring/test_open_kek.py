"""appliance.keyring.open_kek"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.access_config import KeyEncryption
from appliance.errors import ConfigError, StateError
from appliance.keyring.open_kek import open_kek, token_key
from appliance.keyring.passphrase_kek import FILE_NAME, ScryptCost
from appliance.keyring.pkcs11_kek import TokenKey
from tests.unit.keyring.conftest import PIN, write_secret


def opens(settings: KeyEncryption, secrets: Path, environment: dict[str, str]) -> str:
    kek = open_kek(settings, secrets, environment, create=True)
    assert kek.source == settings.source
    assert kek.unwrap(kek.wrap(b"x", b"c"), b"c") == b"x"
    return kek.id


def test_a_file_is_the_default(tmp_path: Path) -> None:
    assert opens(KeyEncryption(), tmp_path, {}).startswith("kek.1:")


def test_a_credential(tmp_path: Path) -> None:
    write_secret(tmp_path / "mine", b"k" * 32)
    settings = KeyEncryption(source="credential", credential="mine")
    assert opens(settings, tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).startswith("mine:")


def test_a_passphrase_from_a_file_or_a_credential(tmp_path: Path) -> None:
    write_secret(tmp_path / FILE_NAME, msgspec.json.encode(ScryptCost(salt=b"s" * 32, n=2**14)))
    path = write_secret(tmp_path / "passphrase", b"correct horse battery\n")
    by_path = opens(KeyEncryption(source="passphrase", passphrase_file=str(path)), tmp_path, {})
    settings = KeyEncryption(source="passphrase", passphrase_file="passphrase")
    assert opens(settings, tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == by_path


def test_a_token(tmp_path: Path, token_key: TokenKey) -> None:
    pin = write_secret(tmp_path / "pin", PIN.encode() + b"\n")
    settings = KeyEncryption(
        source="pkcs11",
        pkcs11_module=token_key.module,
        pkcs11_token=token_key.token,
        pkcs11_key=token_key.label,
        pkcs11_pin_file=str(pin),
    )
    assert opens(settings, tmp_path, {}) == str(token_key)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (KeyEncryption(source="passphrase"), "passphrase_file"),
        (KeyEncryption(source="pkcs11", pkcs11_module="m", pkcs11_token="t"), "pkcs11_pin_file"),
        (KeyEncryption(source="pkcs11", pkcs11_module="m", pkcs11_pin_file="p"), "pkcs11_token"),
        (KeyEncryption(source="pkcs11", pkcs11_token="t", pkcs11_pin_file="p"), "pkcs11_module"),
    ],
)
def test_a_missing_setting_is_named(tmp_path: Path, settings: KeyEncryption, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"needs key_encryption\.{field}"):
        open_kek(settings, tmp_path, {}, create=True)


def test_the_pin_is_read_at_each_use(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "pin", b"first")
    settings = KeyEncryption(source="pkcs11", pkcs11_module="m", pkcs11_token="t", pkcs11_pin_file=str(path))
    where = token_key(settings, {})
    assert where.pin() == "first"
    write_secret(path, b"second")
    assert where.pin() == "second"


def test_a_file_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    wrong = str(tmp_path / "pasphrase")
    settings = KeyEncryption(source="passphrase", passphrase_file=wrong)
    with pytest.raises(StateError, match=rf"^key_encryption\.passphrase_file: {wrong} is missing; correct the path"):
        open_kek(settings, tmp_path, {}, create=True)
    settings = KeyEncryption(source="pkcs11", pkcs11_module="m", pkcs11_token="t", pkcs11_pin_file=wrong)
    with pytest.raises(StateError, match=rf"^key_encryption\.pkcs11_pin_file: {wrong} is missing; correct the path"):
        token_key(settings, {}).pin()


def test_a_passphrase_that_is_too_short_is_named_with_its_setting(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "passphrase", b"short\n")
    with pytest.raises(ConfigError, match=r"^key_encryption\.passphrase_file: the passphrase has 5 characters"):
        open_kek(KeyEncryption(source="passphrase", passphrase_file=str(path)), tmp_path, {}, create=True)
    assert not (tmp_path / FILE_NAME).exists()
