"""Encrypting kept responses again, under the newest data key."""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.errors import StateError
from appliance.keyring.cipher import RotatingCipher
from appliance.responses.files import kept_in, locked
from appliance.state_dir import replacing

_log = logging.getLogger(__name__)


def reseal_responses(folder: Path, cipher: RotatingCipher) -> bool:
    """Encrypts files anew; True once nothing in the folder needs an older key. One caller at a time.

    One that does not open stays as it is until it has expired, and the older key with it. Blocking. Raises StateError.
    """
    if not folder.exists():
        return True
    try:
        # Whoever sealed with an older key and held the lock has written by now; whoever gets it later has the newest.
        with locked(folder):
            kept = kept_in(folder)
        done = [_reseal(folder, each.name, cipher) for each in kept]
    except OSError as error:
        raise StateError(f"{folder} cannot be encrypted anew: {error.strerror}") from error
    return all(done)


def _reseal(folder: Path, name: str, cipher: RotatingCipher) -> bool:
    path = folder / name
    with locked(folder):
        try:
            sealed = path.read_bytes()
        except FileNotFoundError:
            return True
        if cipher.is_current(sealed):
            return True
        try:
            content = cipher.unseal(name, sealed)
        except StateError as error:
            _log.warning("%s is not encrypted anew: %s", path, error)
            return False
        with replacing(path) as file:
            file.write(cipher.seal(name, content))
    return True
