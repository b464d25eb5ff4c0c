"""Encrypting the audit folder again, under the newest data key."""

from __future__ import annotations

from pathlib import Path

from appliance.audit.packing import repack
from appliance.audit.segments import EPOCH_KEY, Listing
from appliance.errors import StateError
from appliance.keyring.cipher import RotatingCipher


def reseal_audit(folder: Path, cipher: RotatingCipher) -> bool:
    """Encrypts closed segments anew; True once nothing in the folder needs an older key.

    The MAC key's file is the open log's: it is written under the newest key when its next epoch begins, within a minute
    of records. Blocking. Raises StateError.
    """
    try:
        listing = Listing.of(folder)
        for number in sorted(listing.packed):
            repack(listing.files(number), cipher)
        return cipher.is_current((folder / EPOCH_KEY).read_bytes())
    except OSError as error:
        raise StateError(f"{folder} cannot be encrypted anew: {error.strerror}") from error
