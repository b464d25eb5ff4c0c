"""Opening what a state directory holds: keys that encrypt, the credentials, the audit log; the first start makes them.

`secrets/credentials` is written last on the first start. Until it exists, what is missing is made; once it does, a
missing file is damage, and making a new one in silence would lock every client out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from appliance.audit.journal import newest_seal_key_id
from appliance.audit.keys import SealKey
from appliance.audit.log import AuditLog
from appliance.audit.record import APPLIANCE, AuditEvent
from appliance.clock import Clock, utc_now
from appliance.config import Config
from appliance.errors import StateError
from appliance.keyring.keyring import Keyring
from appliance.keyring.keyring_file import KeyringFile
from appliance.keyring.open_kek import check_source, open_kek
from appliance.security.access_view import AccessView, ConfiguredAccess
from appliance.security.authority import AccessControl
from appliance.security.bundle_folder import write_bundle
from appliance.security.client_bundle import add_client
from appliance.security.credential_store import CredentialStore
from appliance.security.entry_hits import EntryHits
from appliance.security.founding import found
from appliance.security.last_seen import LastSeen
from appliance.security.office import Office
from appliance.security.profiles import Profiles
from appliance.security.refusal_audit import audited_refusals
from appliance.security.seal_key_changes import drop_unused_seal_keys
from appliance.state_dir import StateDir

DEMO_CLIENT: Final = "demo"
# Where an earlier version kept its API keys.
_OLD_KEYS: Final = "api_keys.json"


@dataclass(frozen=True, slots=True)
class Security:
    """All of it, open."""

    keyring: Keyring
    office: Office

    def close(self) -> None:
        """Makes the audit log whole, and remembers what was last used."""
        self.office.seen.save()
        self.office.access.hits.save()
        self.office.access.close()
        self.office.audit.close()


def open_security(
    state: StateDir,
    config: Config,
    folder: Path,
    environment: Mapping[str, str],
    *,
    create: bool,
    now: Clock = utc_now,
) -> Security:
    """Opens the prepared state directory. The caller holds its lock. Blocks for some 100 ms.

    folder: where appliance.yaml is, for the files it names. create: found a new appliance where there is none.
    Raises ConfigError or StateError.
    """
    configured = ConfiguredAccess.load(config, folder, now())
    profiles, path = Profiles.shipped(), state.secrets / "credentials"
    new = not path.exists()
    if new:
        _check_new(state, path, create=create)
    keyring_path = state.secrets / "keyring.json"
    if keyring_path.exists():
        check_source(config.key_encryption, KeyringFile(keyring_path).read())
    kek = open_kek(config.key_encryption, state.secrets, environment, create=new)
    keyring = Keyring.open(keyring_path, kek, now, create=new)
    cipher = keyring.cipher("credentials")
    store = _found(state, path, configured, profiles, keyring, now) if new else CredentialStore.open(path, cipher)
    cut_short = _settle_seal_keys(state, store)
    view = AccessView.build(configured, store.current)
    seal_key = SealKey.from_bytes(store.current.seal_keys[-1])
    audit = AuditLog.open(state.audit, config.audit, keyring.cipher("audit"), seal_key, now)
    if cut_short:
        audit.append(AuditEvent(action="seal_key.rotate", outcome="failed", actor=APPLIANCE, reason="cut_short"))
    seen = LastSeen(state.store / "last_seen.json")
    hits = EntryHits(state.store / "allow_hits.json")
    access = AccessControl(view, seen, hits, now, audited_refusals(audit))
    return Security(keyring, Office(store, access, audit, seen, profiles, now))


def _check_new(state: StateDir, path: Path, *, create: bool) -> None:
    if (state.secrets / _OLD_KEYS).exists():
        raise StateError(
            f"{state.path} was made by an earlier version and cannot be taken over; move it away, start anew, "
            "and hand new bundles to the clients"
        )
    if not create:
        raise StateError(
            f"{state.path} has no keys yet; start the appliance once with this --state-dir, "
            "or run `appliance certs init`"
        )
    if any(state.store.iterdir()) or any(state.audit.iterdir()):
        raise StateError(
            f"{path} is missing although this appliance has served before; restore it from a backup. "
            f"To begin anew, with every client invalid, move {state.path} away"
        )


def _found(
    state: StateDir, path: Path, configured: ConfiguredAccess, profiles: Profiles, keyring: Keyring, now: Clock
) -> CredentialStore:
    """The bundle of the demo client first: without a document that knows its key it is worth nothing."""
    first = found(profiles, configured.names, SealKey.generate().private_bytes, now())
    life = timedelta(days=configured.config.api_keys.life_days)
    document, files = add_client(first, profiles, DEMO_CLIENT, now(), life=life)
    AccessView.build(configured, document)
    write_bundle(state.clients / DEMO_CLIENT, files)
    return CredentialStore.found(path, keyring.cipher("credentials"), document)


def _settle_seal_keys(state: StateDir, store: CredentialStore) -> bool:
    """Leaves the audit log's seal key as the newest; True where a rotation had been cut short before the log knew."""
    before = store.current
    after = drop_unused_seal_keys(before, newest_seal_key_id(state.audit))
    if after is not before:
        store.commit(before.generation, after)
    return after is not before
