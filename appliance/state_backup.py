"""A backup of a state directory: what goes in, and how it becomes a state directory again.

Not in it: what binds the state to this host, which a restore makes anew, and captured prompts and kept
responses, whose life a backup would lengthen; nor what the flight recorder has recorded of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from appliance.access_config import KeyEncryption
from appliance.audit.segments import BALLAST, EPOCH_KEY
from appliance.clock import utc_now
from appliance.errors import StateError
from appliance.keyring.backup import BackupSummary, restore_backup, write_backup
from appliance.keyring.keyring import Keyring
from appliance.keyring.open_kek import open_kek
from appliance.keyring.recovery import RecoveryPublicKey, RecoverySecretKey
from appliance.state_dir import StateDir, temporary_sibling
from appliance.store.connection import copy_whole
from appliance.telemetry.recording import FILE as RECORDER
from appliance.telemetry.request_table import FILE as REQUESTS

FOLDERS: Final = ("audit", "clients", "secrets", "store")
_KEYRING: Final = "keyring.json"
_EXTRA: Final = "keyring"
_NOT_COPIED: Final = (EPOCH_KEY, BALLAST)


def back_up_state(state: StateDir, keyring: Keyring, public: RecoveryPublicKey, target: Path) -> BackupSummary:
    """Writes the new file `target`, all or nothing. Blocking, up to minutes. Raises StateError.

    The appliance may serve meanwhile, and the credentials change. The caller sees to it that no data key does, and no
    seal key of the audit log: what goes in must open with the keys that go in.
    """
    requests = state.store / REQUESTS
    with _copied(requests) as copy:
        return _write(state, keyring, public, target, {} if copy is None else {f"store/{REQUESTS}": copy})


def _write(
    state: StateDir, keyring: Keyring, public: RecoveryPublicKey, target: Path, copies: Mapping[str, Path]
) -> BackupSummary:
    bound = (_KEYRING, f"{_KEYRING}.lock", *(path.name for path in state.secrets.glob("kek*")))
    skip = ["store/capture", "store/responses", *(f"secrets/{name}" for name in bound)]
    return write_backup({**contents(state), **copies}, {_EXTRA: keyring.export_plain()}, public, target, skip=skip)


def contents(state: StateDir) -> dict[str, Path]:
    """Names in the archive and what they stand for, in the order in which they are read.

    The MAC key of now comes before the records that it is older than: it can be brought forward to them, and not back.
    """
    entries = {f"audit/{EPOCH_KEY}": state.audit / EPOCH_KEY}
    entries |= {f"audit/{path.name}": path for path in sorted(state.audit.iterdir()) if path.name not in _NOT_COPIED}
    entries |= {name: state.path / name for name in FOLDERS if name not in ("audit", "store")}
    # The request log goes in as a copy that is whole: its file and what lies beside it change all the time.
    kept = (path for path in sorted(state.store.iterdir()) if not path.name.startswith((REQUESTS, RECORDER, ".")))
    return entries | {f"store/{path.name}": path for path in kept}


@contextlib.contextmanager
def _copied(database: Path) -> Iterator[Path | None]:
    """For as long as the block lasts; None where there is none."""
    if not database.exists():
        yield None
        return
    copy = temporary_sibling(database)
    try:
        copy_whole(database, copy)
        yield copy
    finally:
        for end in ("", "-wal", "-shm"):
            Path(f"{copy}{end}").unlink(missing_ok=True)


def restore_state(
    archive: Path, secret: RecoverySecretKey, into: Path, settings: KeyEncryption, environment: Mapping[str, str]
) -> int:
    """Makes the state directory `into`, all or nothing, and returns how many files it has. Raises StateError."""

    def prepare(folder: Path, extra: Mapping[str, bytes]) -> None:
        if _EXTRA not in extra:
            raise StateError(f"{archive} is no backup of an appliance: it holds no data keys")
        state = StateDir(folder)
        for inner in state.folders:
            inner.mkdir(mode=0o700, exist_ok=True)
        kek = open_kek(settings, state.secrets, environment, create=True)
        Keyring.import_plain(state.secrets / _KEYRING, kek, extra[_EXTRA], utc_now)

    return len(restore_backup(archive, secret, into, prepare).members)
