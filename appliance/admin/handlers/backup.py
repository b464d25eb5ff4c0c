"""Backups: one file, encrypted to a recovery key that is kept off the host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from appliance.admin.route import Answer, Call
from appliance.audit.record import AuditEvent
from appliance.audit.segments import BALLAST, EPOCH_KEY
from appliance.errors import ChangeRefused
from appliance.keyring.backup import write_backup
from appliance.keyring.recovery import RecoveryPublicKey

KEYRING_EXTRA: Final = "keyring"
# What binds the state to this host: a restore makes these anew.
_BOUND: Final = ("keyring.json", "keyring.json.lock")
_NOT_COPIED: Final = (EPOCH_KEY, BALLAST)


class Create(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """recovery_public: the text of the recovery key's public half. target: an absolute path that does not exist yet."""

    recovery_public: Annotated[str, Meta(max_length=256)]
    target: Annotated[str, Meta(max_length=4096)]


async def create(call: Call) -> Answer:
    """Writes a backup of everything but the models."""
    asked, state, keyring = call.parsed(Create), call.site.state, call.site.keyring
    target, public = Path(asked.target), RecoveryPublicKey.parse(asked.recovery_public)
    if not target.is_absolute():
        raise ChangeRefused("invalid", f"{target}: say the whole path")
    # The MAC key of now before the records it is older than: it can be brought forward to them, and not back.
    entries = {f"audit/{EPOCH_KEY}": state.audit / EPOCH_KEY}
    entries |= {f"audit/{path.name}": path for path in sorted(state.audit.iterdir()) if path.name not in _NOT_COPIED}
    entries |= {name: state.path / name for name in ("secrets", "clients", "store")}
    # Captured prompts have a life of their own, which a backup would lengthen.
    bound = [*(path.name for path in state.secrets.glob("kek*")), *_BOUND]
    skip = ["store/capture", *(f"secrets/{name}" for name in bound)]
    if call.plan:
        return call.answer({"target": str(target), "folders": ["audit", "clients", "secrets", "store"]})
    summary = await call.office.perform(
        call.administrator.actor,
        "backup.create",
        str(target),
        lambda: write_backup(entries, {KEYRING_EXTRA: keyring.export_plain()}, public, target, skip=skip),
        details={"recovery_key": public.fingerprint.hex()},
    )
    # Whoever has the public key can make an archive that opens; the digest in the audit log says which one is ours.
    call.office.audit.append(
        AuditEvent(
            action="backup.created",
            outcome="ok",
            actor=call.administrator.actor,
            resource=str(target),
            details={"sha256": summary.sha256, "bytes": summary.size},
        )
    )
    return call.answer(
        {"target": str(target), "sha256": summary.sha256, "bytes": summary.size, "files": summary.members}
    )
