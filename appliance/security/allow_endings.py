"""Which entries of the allowlist end soon, and who comes in by them alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Final

from appliance.security.allowlist import Address, Allowlist
from appliance.security.change_details import entry_name
from appliance.security.credentials import AllowEntries, AllowEntry

SOON: Final = timedelta(days=1)
_SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class EntryEnding:
    """An entry that ends soon. addresses: of those that were here lately, who cannot connect after it."""

    entry: AllowEntry
    until: datetime
    addresses: tuple[str, ...]

    @property
    def what(self) -> str:
        """It by name."""
        return f"the allowlist entry {entry_name(self.entry)}"

    @property
    def shut_out(self) -> str:
        """Who is, as the end of a sentence; empty where nobody is."""
        if not self.addresses:
            return ""
        more = " …" if len(self.addresses) > _SHOWN_MAX else ""
        return f"it alone lets in {', '.join(self.addresses[:_SHOWN_MAX])}{more} of the last 24 hours"


def entries_ending(
    entries: AllowEntries, lists: Mapping[str, Allowlist], recent: Sequence[tuple[str, Address]], now: datetime
) -> list[EntryEnding]:
    """Those that count and end within SOON, the soonest first.

    lists: of the listeners, as they count. recent: (listener, address) of those that were let in lately.
    """
    found = []
    for entry in entries:
        if entry.until is None or not entry.counts(now) or entry.until - now > SOON:
            continue
        network = ip_network(entry.network)
        addresses = {
            str(address)
            for listener, address in recent
            if entry.listener in (None, listener) and address in network and listener in lists
            # By a wider entry too it might come in for longer.
            if lists[listener].until(address, now) == entry.until
        }
        found.append(EntryEnding(entry, entry.until, tuple(sorted(addresses))))
    return sorted(found, key=lambda one: (one.until, one.what))
