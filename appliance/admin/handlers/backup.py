"""Backups: one file, encrypted to a recovery key that is kept off the host."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused
from appliance.keyring.recovery import RecoveryPublicKey
from appliance.state_backup import FOLDERS, back_up_state


class Create(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """recovery_public: the text of the recovery key's public half. target: an absolute path that does not exist yet."""

    recovery_public: Annotated[str, Meta(max_length=256)]
    target: Annotated[str, Meta(max_length=4096)]


async def create(call: Call) -> Answer:
    """Writes what another host can be made from: keys, credentials, records and clients, without models and prompts."""
    asked = call.parsed(Create)
    target, public = Path(asked.target), RecoveryPublicKey.parse(asked.recovery_public)
    if not target.is_absolute():
        raise ChangeRefused("invalid", f"{target}: say the whole path")
    if call.plan:
        return call.answer({"target": str(target), "folders": FOLDERS})
    summary = await call.office.perform(
        call.administrator.actor,
        call.route.action,
        str(target),
        functools.partial(back_up_state, call.site.state, call.site.keyring, public, target),
        details={"recovery_key": public.fingerprint.hex()},
    )
    # Whoever has the public key can make an archive that opens; the digest in the audit log says which one is ours.
    details: dict[str, str | int] = {"sha256": summary.sha256, "bytes": summary.size}
    call.office.audit.append(call.event("ok", str(target), action="backup.created", details=details))
    return call.answer(
        {"target": str(target), "sha256": summary.sha256, "bytes": summary.size, "files": summary.members}
    )
