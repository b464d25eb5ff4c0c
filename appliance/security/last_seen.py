"""When a key, a certificate's issuer and an address were last used: coarse, bounded, and not secret.

Rotation asks who still uses the old key or authority, and a change of the allowlist who would be shut out.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from appliance.errors import StateError
from appliance.security.allowlist import Address, normalise
from appliance.state_dir import FiguresFile, read_private

ENTRIES_MAX: Final = 20_000
FILE_BYTES_MAX: Final = 16 * 2**20

# Up to the year 5138: what a datetime can hold.
Seconds = Annotated[int, Meta(ge=0, le=100_000_000_000)]

_log = logging.getLogger(__name__)


class _File(Struct, kw_only=True, forbid_unknown_fields=True):
    """Seconds since 1970, UTC. issuers: by `<issuer key id> <principal>`. addresses: by `<listener> <address>`."""

    keys: dict[str, Seconds] = {}
    issuers: dict[str, Seconds] = {}
    addresses: dict[str, Seconds] = {}


class LastSeen:
    """Belongs to the event loop.

    A damaged file is reported and begun anew: losing it costs warnings, not access.
    """

    def __init__(self, path: Path) -> None:
        self._file = FiguresFile(path)
        self._seen = _File()
        if path.exists():
            try:
                self._seen = msgspec.json.decode(read_private(path, FILE_BYTES_MAX), type=_File)
                self._addresses_since(0)
            except (StateError, ValueError) as error:
                self._seen = _File()
                _log.warning("%s cannot be read (%s); what was last used is forgotten", path, error)

    def note_address(self, listener: str, address: Address, now: datetime) -> None:
        """A connection of this address was let in."""
        self._note(self._seen.addresses, f"{listener} {address}", now)

    def note_key(self, kid: str, now: datetime) -> None:
        """A request showed this key, rightly."""
        self._note(self._seen.keys, kid, now)

    def note_issuer(self, issuer_key_id: str, principal: str, now: datetime) -> None:
        """A request came with a certificate of this issuer."""
        self._note(self._seen.issuers, f"{issuer_key_id} {principal}", now)

    def key(self, kid: str) -> datetime | None:
        """When a key was last used."""
        seconds = self._seen.keys.get(kid)
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    def principals_of(self, issuer_key_id: str, since: datetime) -> list[str]:
        """Who came with a certificate of this issuer since then."""
        prefix, oldest = f"{issuer_key_id} ", since.timestamp()
        return sorted(
            name.removeprefix(prefix)
            for name, seconds in self._seen.issuers.items()
            if name.startswith(prefix) and seconds >= oldest
        )

    def addresses(self, now: datetime, age: timedelta = timedelta(hours=24)) -> list[tuple[str, Address]]:
        """(listener, address) of those let in within `age`."""
        return self._addresses_since((now - age).timestamp())

    def save(self) -> None:
        """Writes the file where something changed, and waits for the disk: for the end, when nobody is served."""
        self._file.save(self._seen)

    async def save_aside(self) -> None:
        """The same in a thread. A failure is logged and tried again next time."""
        await self._file.save_aside(self._seen)

    def _addresses_since(self, oldest: float) -> list[tuple[str, Address]]:
        recent = (name.rpartition(" ") for name, seconds in self._seen.addresses.items() if seconds >= oldest)
        return [(listener, normalise(address)) for listener, _, address in recent]

    def _note(self, table: dict[str, int], name: str, now: datetime) -> None:
        seconds = int(now.timestamp())
        if table.get(name) == seconds:
            return
        if name not in table and len(table) >= ENTRIES_MAX:
            for oldest in sorted(table, key=table.__getitem__)[: ENTRIES_MAX // 10]:
                del table[oldest]
        table[name] = seconds
        self._file.changed = True
