"""appliance.security.allow_endings"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from appliance.access_config import Listener
from appliance.security.allow_changes import allowlists
from appliance.security.allow_endings import SOON, EntryEnding, entries_ending
from appliance.security.allowlist import Address, normalise
from appliance.security.credentials import AllowEntry
from tests.unit.security.making import HOUR, NOW

GUEST = AllowEntry(network="192.0.2.0/24", until=NOW + HOUR)
LISTENERS = {"api": Listener(), "dify": Listener()}
RECENT: list[tuple[str, Address]] = [
    ("api", normalise("192.0.2.7")),
    ("dify", normalise("192.0.2.8")),
    ("gone", normalise("192.0.2.9")),
    ("api", normalise("203.0.113.1")),
]


def ending(*entries: AllowEntry) -> list[EntryEnding]:
    return entries_ending(entries, allowlists(LISTENERS, entries), RECENT, NOW)


def test_it_names_who_comes_in_by_it_alone() -> None:
    (found,) = ending(GUEST)
    assert (found.what, found.until) == ("the allowlist entry 192.0.2.0/24", NOW + HOUR)
    assert found.addresses == ("192.0.2.7", "192.0.2.8")
    assert found.shut_out == "it alone lets in 192.0.2.7, 192.0.2.8 of the last 24 hours"
    (found,) = ending(replace(GUEST, listener="dify"))
    assert (found.what, found.addresses) == ("the allowlist entry 192.0.2.0/24 (dify)", ("192.0.2.8",))


def test_whoever_comes_in_by_another_entry_for_longer_is_not_shut_out() -> None:
    wider = AllowEntry(network="192.0.2.0/28", until=NOW + 2 * HOUR)
    first, second = ending(wider, GUEST)
    assert (first.entry, first.addresses, first.shut_out) == (GUEST, (), "")
    assert second.addresses == ("192.0.2.7", "192.0.2.8")
    (found,) = ending(GUEST, AllowEntry(network="192.0.0.0/16"))
    assert found.addresses == ()


def test_only_what_counts_and_ends_within_a_day() -> None:
    assert ending(replace(GUEST, until=NOW + SOON)) != []
    assert ending(replace(GUEST, until=NOW + SOON + timedelta(seconds=1))) == []
    assert ending(replace(GUEST, until=None), replace(GUEST, until=NOW), replace(GUEST, ended=True)) == []
