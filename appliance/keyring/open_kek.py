"""From the configuration to the KEK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import assert_never

from appliance.access_config import KeyEncryption
from appliance.errors import ConfigError, StateError
from appliance.keyring.credential_kek import CredentialKek
from appliance.keyring.data_key import kek_name
from appliance.keyring.file_kek import FileKek
from appliance.keyring.kek import Kek
from appliance.keyring.keyring_file import WrappedKey
from appliance.keyring.passphrase_kek import FILE_NAME as PASSPHRASE_FILE
from appliance.keyring.passphrase_kek import PassphraseKek, check_length
from appliance.keyring.pkcs11_kek import Pkcs11Kek, TokenKey
from appliance.keyring.secret_input import read_secret_text
from appliance.safe_text import safe_text


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
            return PassphraseKek.open(secrets, _passphrase(settings, environment), create=create)
        case "pkcs11":
            return Pkcs11Kek.open(token_key(settings, environment))
        case _:
            assert_never(settings.source)


def check_source(settings: KeyEncryption, keys: Iterable[WrappedKey]) -> None:
    """Raises StateError where the KEK that wrapped `keys` is of another source than the one that `settings` name.

    Before it is opened: what is missing then is no part of this state directory, and nothing to restore.
    """
    for key in keys:
        wrapped_by = key.kek.partition(":")[0]
        if wrapped_by != settings.source:
            raise StateError(
                f"the data keys are wrapped by {safe_text(key.kek)}, and key_encryption.source is `{settings.source}`. "
                "Is this the appliance.yaml that counts? Otherwise name that one with --config. To change the source, "
                f"set key_encryption back to `{safe_text(wrapped_by)}`, start, change it again, `appliance reload`, "
                "and then `appliance secrets rekey`"
            )


def probe_kek(settings: KeyEncryption, secrets: Path, environment: Mapping[str, str]) -> str:
    """What the name of the KEK begins with (`kek_name`); the whole of it where the KEK is there already.

    Reads what `open_kek` would read, and makes nothing. Blocks and raises as that.
    """
    makes_its_own = settings.source == "file" or (
        settings.source == "passphrase" and not (secrets / PASSPHRASE_FILE).exists()
    )
    if not makes_its_own:
        return kek_name(open_kek(settings, secrets, environment, create=False))
    if settings.source == "passphrase":
        _passphrase(settings, environment)
    return f"{settings.source}:"


def token_key(settings: KeyEncryption, environment: Mapping[str, str]) -> TokenKey:
    """Where the KEK is in a token. Raises ConfigError."""
    pin_file = _given(settings.pkcs11_pin_file, "pkcs11", "pkcs11_pin_file")
    return TokenKey(
        module=_given(settings.pkcs11_module, "pkcs11", "pkcs11_module"),
        token=_given(settings.pkcs11_token, "pkcs11", "pkcs11_token"),
        label=settings.pkcs11_key,
        pin=lambda: _secret_text(pin_file, "pkcs11_pin_file", environment),
    )


def _passphrase(settings: KeyEncryption, environment: Mapping[str, str]) -> str:
    reference = _given(settings.passphrase_file, "passphrase", "passphrase_file")
    passphrase = _secret_text(reference, "passphrase_file", environment)
    with _naming("passphrase_file"):
        check_length(passphrase)
    return passphrase


def _secret_text(reference: str, field: str, environment: Mapping[str, str]) -> str:
    with _naming(field):
        return read_secret_text(reference, environment)


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    """Puts the setting in front of what is wrong with it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"key_encryption.{field}: {error}") from error
    except StateError as error:
        raise StateError(f"key_encryption.{field}: {error}") from error


def _given(value: str | None, source: str, field: str) -> str:
    if not value:
        raise ConfigError(f"key_encryption.source `{source}` needs key_encryption.{field}")
    return value
