"""Bringing a backup back: the state directory as it was, under this host's key-encryption key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from appliance.access_config import KeyEncryption
from appliance.admin.handlers.backup import KEYRING_EXTRA
from appliance.clock import utc_now
from appliance.errors import StateError
from appliance.keyring.backup import restore_backup
from appliance.keyring.keyring import Keyring
from appliance.keyring.open_kek import open_kek
from appliance.keyring.recovery import RecoverySecretKey
from appliance.state_dir import StateDir


def restore_state(
    archive: Path, secret: RecoverySecretKey, into: Path, settings: KeyEncryption, environment: Mapping[str, str]
) -> int:
    """Makes the state directory `into`, all or nothing, and returns how many files it has. Raises StateError."""

    def prepare(folder: Path, extra: Mapping[str, bytes]) -> None:
        if KEYRING_EXTRA not in extra:
            raise StateError(f"{archive} is no backup of an appliance: it holds no data keys")
        for inner in StateDir(folder).folders:
            inner.mkdir(mode=0o700, exist_ok=True)
        kek = open_kek(settings, folder / "secrets", environment, create=True)
        Keyring.import_plain(folder / "secrets" / "keyring.json", kek, extra[KEYRING_EXTRA], utc_now)

    return len(restore_backup(archive, secret, into, prepare).members)
