"""Moving what older data keys sealed to the newest, and dropping those: the end of a data key's rotation.

Every step can be repeated: what is sealed under the newest key already is left alone, and a key is dropped only when
nothing that it sealed is left. So a rotation that was cut short is finished by the next one who calls this.
"""

from __future__ import annotations

from pathlib import Path

from appliance.audit.resealing import reseal_audit
from appliance.capture.resealing import reseal_capture
from appliance.keyring.keyring import Keyring
from appliance.security.credential_store import CredentialStore


def reseal(keyring: Keyring, store: CredentialStore, audit_folder: Path, capture_folder: Path) -> None:
    """Blocks while it reads and writes. Raises StateError; then the older keys stay."""
    older = [key for key in keyring.status() if not key.newest]
    if not older:
        return
    if any(key.purpose == "credentials" for key in older):
        store.reseal()
    audit_is_done = reseal_audit(audit_folder, keyring.cipher("audit"))
    capture_is_done = reseal_capture(capture_folder, keyring.cipher("capture"))
    for key in older:
        match key.purpose:
            case "credentials":
                keyring.drop("credentials", key.generation)
            case "audit" if audit_is_done:
                keyring.drop("audit", key.generation)
            case "capture" if capture_is_done:
                keyring.drop("capture", key.generation)
            # What has sealed nothing never will: the newest key does.
            case "backup" if key.messages == 0:
                keyring.drop("backup", key.generation)
