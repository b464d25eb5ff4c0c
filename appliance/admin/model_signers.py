"""The keys whose signatures on models count, as appliance.yaml names them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.config import Config
from appliance.errors import ConfigError
from appliance.model_store.signing import Signer
from appliance.security.trusted_file import read_trusted

KEY_BYTES_MAX: Final = 16 * 1024


def read_signers(config: Config) -> tuple[Signer, ...]:
    """Reads the files of `models.signers`. Raises ConfigError."""
    signers = []
    for path in map(Path, config.models.signers):
        try:
            signers.append(Signer.parse(path.stem, read_trusted(path, KEY_BYTES_MAX)))
        except ValueError as error:
            raise ConfigError(f"models.signers: {path} {error}") from None
    if config.models.require_signature and not signers:
        raise ConfigError("models.require_signature is on, but models.signers names no key: nothing could be imported")
    return tuple(signers)
