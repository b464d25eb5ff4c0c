"""What encrypts and what hashes: data keys, the key that wraps them, peppers, the audit log's seal key."""

from __future__ import annotations

import secrets
from datetime import datetime

from msgspec import Struct

from appliance.admin.route import Answer, Call
from appliance.audit.journal import newest_seal_key_id
from appliance.audit.keys import SealKey
from appliance.errors import ChangeRefused
from appliance.keyring.data_key import kek_name
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import PURPOSES, KeyStatus, Purpose
from appliance.keyring.open_kek import open_kek
from appliance.security.credentials import Credentials
from appliance.security.founding import PEPPER_BYTES
from appliance.security.key_changes import add_pepper, keys_under, move_keys, retire_pepper
from appliance.security.resealing import renew_data_keys
from appliance.security.seal_key_changes import add_seal_key


class RetirePepper(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """force: revoke the keys that have not moved to a newer pepper."""

    pepper: int
    force: bool = False


class PepperView(Struct, frozen=True, kw_only=True):
    """keys: working ones that are hashed under it."""

    id: int
    created: datetime
    newest: bool
    keys: int


async def show(call: Call) -> Answer:
    """Which keys there are and what still depends on them; none of them is shown."""
    document, now = call.office.document, call.office.now()
    newest = max(pepper.id for pepper in document.peppers)
    return call.answer(
        {
            "data_keys": call.site.keyring.status(),
            "peppers": [
                PepperView(
                    id=pepper.id,
                    created=pepper.created,
                    newest=pepper.id == newest,
                    keys=len(keys_under(document, pepper.id, now)),
                )
                for pepper in document.peppers
            ],
            "seal_key": newest_seal_key_id(call.site.state.audit),
        }
    )


async def rotate_data_key(call: Call) -> Answer:
    """A new key for one purpose; what the older ones sealed is sealed again, and then they are dropped."""
    purpose = _purpose(call)
    if call.plan:
        return call.answer({"data_keys": _of(call, purpose)})
    await call.office.perform(
        call.administrator.actor, "data_key.rotate", purpose, lambda: call.site.keyring.rotate(purpose)
    )
    if purpose == "audit":
        # The open segment's key file is written under the newest data key when a segment begins.
        await call.office.audit.close_segment()
    await renew_data_keys(call.office, call.site.keyring, call.site.state)
    return call.answer({"data_keys": _of(call, purpose)})


async def rekey(call: Call) -> Answer:
    """Wraps the data keys under the key-encryption key that appliance.yaml names now; a file's gets a successor."""
    settings, secrets_folder = call.office.config.key_encryption, call.site.state.secrets

    def work() -> str:
        kek = open_kek(settings, secrets_folder, call.site.environment, create=True)
        if isinstance(kek, FileKek) and kek_name(kek) in {key.kek for key in call.site.keyring.status()}:
            kek = kek.successor()
        call.site.keyring.rekey(kek)
        return kek.id

    if call.plan:
        return call.answer({"source": settings.source})
    kek_id = await call.office.perform(call.administrator.actor, "kek.rekey", settings.source, work)
    return call.answer({"source": settings.source, "kek": kek_id})


async def rotate_pepper(call: Call) -> Answer:
    """A new pepper; a key moves to it when it is used next."""
    fresh = secrets.token_bytes(PEPPER_BYTES)
    change = await call.change("pepper", lambda document, now: (add_pepper(document, fresh, now), None))
    return Answer({"peppers": [pepper.id for pepper in call.office.document.peppers]}, change.generation)


async def drop_pepper(call: Call) -> Answer:
    """Forgets an old pepper."""
    asked = call.parsed(RetirePepper)

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, list[str]]:
        # Those that were just used and whose turn to move has not come.
        document = move_keys(document, call.office.access.to_move)
        left = keys_under(document, asked.pepper, now)
        return retire_pepper(document, asked.pepper, now, force=asked.force), left

    change = await call.change(str(asked.pepper), transition)
    if not call.plan:
        for kid in change.result:
            reason = f"pepper {asked.pepper} was retired"
            call.office.audit.append(call.event("ok", kid, action="key.revoke", reason=reason))
    return Answer({"revoked": change.result, "cut": change.cut}, change.generation)


async def rotate_seal_key(call: Call) -> Answer:
    """A new key to sign the audit log's segments; the last act of the old one is to sign the new one.

    The document has the new key first, beside the one that the log uses: a crash between the two leaves a key that is
    not used yet, and never one that is used and lost.
    """
    fresh = SealKey.generate()

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        return add_seal_key(document, newest_seal_key_id(call.site.state.audit), fresh), None

    # A backup takes the document, the records and the list of keys one after the other; all must be of one key.
    async with call.office.long_work:
        change = await call.change(fresh.key_id, transition, finish=lambda: call.office.audit.replace_seal_key(fresh))
    return Answer({"seal_key": fresh.key_id}, change.generation)


def _purpose(call: Call) -> Purpose:
    for purpose in PURPOSES:
        if purpose == call.match["purpose"]:
            return purpose
    raise ChangeRefused(
        "not_found", f"there is no data key for {call.match['purpose']!r}; known: {', '.join(PURPOSES)}"
    )


def _of(call: Call, purpose: Purpose) -> list[KeyStatus]:
    return [status for status in call.site.keyring.status() if status.purpose == purpose]
