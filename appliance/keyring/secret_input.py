"""Secrets that the service manager or an administrator lays down for us: systemd credentials, passphrase and PIN files.

The environment is an argument; of it only CREDENTIALS_DIRECTORY counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appliance.errors import ConfigError
from appliance.state_dir import read_private

DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
SECRET_BYTES_MAX: Final = 1024


def read_credential(name: str, environment: Mapping[str, str]) -> bytes:
    """The bytes of `$CREDENTIALS_DIRECTORY/<name>`. Raises ConfigError.

    systemd guards the folder: its files may belong to root and be readable by us through an access list, so owner and
    mode are not looked at.
    """
    if not (folder := environment.get(DIRECTORY)):
        raise ConfigError(
            f"the credential {name!r} is not here because {DIRECTORY} is not set; "
            f"add `LoadCredentialEncrypted={name}` to the unit and start the appliance through systemd"
        )
    path = Path(folder) / name
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"the credential {path} cannot be read: {error.strerror}; "
            f"check `LoadCredentialEncrypted={name}` of the unit"
        ) from error
    if len(data) > SECRET_BYTES_MAX:
        raise ConfigError(f"the credential {path} is larger than {SECRET_BYTES_MAX} bytes; it is no key or passphrase")
    return data


def read_secret_text(reference: str, environment: Mapping[str, str]) -> str:
    """The one line of text at `reference`, without its line end: a credential's name, or an absolute path.

    Raises ConfigError; StateError for a file that others may read.
    """
    if "/" not in reference:
        data = read_credential(reference, environment)
    elif reference.startswith("/"):
        data = read_private(Path(reference), SECRET_BYTES_MAX, if_missing="correct the path, or put the file there")
    else:
        raise ConfigError(f"{reference}: give an absolute path, or the name of a credential")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{reference} is not UTF-8 text") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text or "\0" in text:
        raise ConfigError(f"{reference} must hold one line of text")
    return text
