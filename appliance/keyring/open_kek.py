"""From the configuration to the KEK."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from appliance.access_config import KeyEncryption
from appliance.errors import ConfigError
from appliance.keyring.credential_kek import CredentialKek
from appliance.keyring.file_kek import FileKek
from appliance.keyring.kek import Kek
from appliance.keyring.passphrase_kek import PassphraseKek
from appliance.keyring.pkcs11_kek import Pkcs11Kek, TokenKey
from appliance.keyring.secret_input import read_secret_text


def open_kek(settings: KeyEncryption, secrets: Path, environment: Mapping[str, str], *, create: bool) -> Kek:
    """The KEK that `settings` name. secrets: the folder for what belongs to it.

    create: the first start, when a missing kek file or scrypt salt is made. A credential and a key in a token are
    never made here. Blocks (scrypt, the token). Raises ConfigError or StateError.
    """
    match settings.source:
        case "file":
            return FileKek.open(secrets, create=create)
        case "credential":
            return CredentialKek.open(settings.credential, environment)
        case "passphrase":
            reference = _given(settings.passphrase_file, "passphrase", "passphrase_file")
            return PassphraseKek.open(secrets, read_secret_text(reference, environment), create=create)
        case "pkcs11":
            return Pkcs11Kek.open(token_key(settings, environment))
        case _:
            assert_never(settings.source)


def token_key(settings: KeyEncryption, environment: Mapping[str, str]) -> TokenKey:
    """Where the KEK is in a token. Raises ConfigError."""
    pin_file = _given(settings.pkcs11_pin_file, "pkcs11", "pkcs11_pin_file")
    return TokenKey(
        module=_given(settings.pkcs11_module, "pkcs11", "pkcs11_module"),
        token=_given(settings.pkcs11_token, "pkcs11", "pkcs11_token"),
        label=settings.pkcs11_key,
        pin=lambda: read_secret_text(pin_file, environment),
    )


def _given(value: str | None, source: str, field: str) -> str:
    if not value:
        raise ConfigError(f"key_encryption.source `{source}` needs key_encryption.{field}")
    return value
