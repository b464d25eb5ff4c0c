"""Moving what older data keys sealed to the newest, and dropping those: the end of a data key's rotation.

Every step can be repeated: what is sealed under the newest key already is left alone, and a key is dropped only when
nothing that it sealed is left. So a rotation that was cut short is finished by the next one who calls this.
"""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Final

from appliance.audit.record import APPLIANCE
from appliance.audit.resealing import reseal_audit
from appliance.capture.resealing import reseal_capture
from appliance.keyring.keyring import Keyring, KeyStatus
from appliance.responses.resealing import reseal_responses
from appliance.security.credential_store import CredentialStore
from appliance.security.office import Office
from appliance.state_dir import StateDir

DATA_KEY_LIFE: Final = timedelta(days=90)


async def renew_data_keys(office: Office, keyring: Keyring, state: StateDir) -> bool:
    """Rotates data keys that are old or have sealed much, and ends every rotation that can be ended.

    True once no older key is left. One that is may have sealed what is in use, or what is damaged and must stay.
    On the event loop; the work is the office's, which audits it. Raises StateError.
    """
    for purpose in keyring.due(office.now(), DATA_KEY_LIFE):
        await office.perform(APPLIANCE, "data_key.rotate", purpose, functools.partial(keyring.rotate, purpose))
    if not _older(keyring):
        return True
    work = functools.partial(reseal, keyring, office.store, state)
    await office.perform(APPLIANCE, "data_key.reseal", "state", work)
    return not _older(keyring)


def reseal(keyring: Keyring, store: CredentialStore, state: StateDir) -> None:
    """Blocks while it reads and writes. Raises StateError; then the older keys stay."""
    older = _older(keyring)
    if not older:
        return
    if any(key.purpose == "credentials" for key in older):
        store.reseal()
    audit_is_done = reseal_audit(state.audit, keyring.cipher("audit"))
    capture_is_done = reseal_capture(state.capture, keyring.cipher("capture"))
    responses_are_done = reseal_responses(state.responses, keyring.cipher("responses"))
    for key in older:
        match key.purpose:
            case "credentials":
                keyring.drop("credentials", key.generation)
            case "audit" if audit_is_done:
                keyring.drop("audit", key.generation)
            case "capture" if capture_is_done:
                keyring.drop("capture", key.generation)
            case "responses" if responses_are_done:
                keyring.drop("responses", key.generation)


def _older(keyring: Keyring) -> list[KeyStatus]:
    return [key for key in keyring.status() if not key.newest]
