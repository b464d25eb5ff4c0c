"""The secrets of one state directory, opened: peppers, certificate authorities, API key records.

`secrets/api_keys.json` is written last on the first start. Until it exists, what is missing is created; once it does, a
missing file is damage, and making a new one in silence would lock every client out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.errors import StateError
from appliance.security.key_store import KeyStore
from appliance.security.pki import Pki
from appliance.security.secret_files import Generations
from appliance.state_dir import StateDir

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the product; tests pass their own."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Vault:
    """created: whether this is the first start, so that the caller adds the first client."""

    peppers: Generations
    pki: Pki
    keys: KeyStore
    created: bool

    @classmethod
    def open(cls, state: StateDir, now: Clock, *, create: bool) -> Vault:
        """Opens or, with `create`, founds the vault. The caller holds StateDir.writing(). Raises StateError."""
        path = state.secrets / "api_keys.json"
        new = not path.exists()
        if new and not create:
            raise StateError(f"{state.path} has no keys yet; start the appliance once with this --state-dir")
        if new and any(state.store.iterdir()):
            raise StateError(
                f"{path} is missing although this appliance has served before; restore it from a backup. "
                f"To begin anew, with every client invalid, move {state.path} away"
            )
        keks = Generations.open(state.secrets, "kek", create=new)
        return cls(
            peppers=Generations.open(state.secrets, "pepper", create=new),
            pki=Pki.open(state.pki, keks, now, create=new),
            keys=KeyStore(path) if new else KeyStore.open(path),
            created=new,
        )
