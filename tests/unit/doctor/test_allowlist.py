"""Verdicts on the allowlist."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.doctor.allowlist import allowlist_verdicts
from appliance.security.allow_endings import EntryEnding
from appliance.security.credentials import AllowEntry
from appliance.security.fence import Stopped

UNTIL = datetime(2026, 12, 1, 18, 0, tzinfo=UTC)
GUEST = AllowEntry(network="192.0.2.0/24", listener="api", until=UNTIL)


def test_what_ends_soon() -> None:
    alone, also = allowlist_verdicts([EntryEnding(GUEST, UNTIL, ("192.0.2.7",)), EntryEnding(GUEST, UNTIL, ())], [])
    assert (alone.level, also.level) == ("warning", "warning")
    assert also.found == "the allowlist entry 192.0.2.0/24 (api) ends on 2026-12-01 18:00 UTC"
    assert alone.found == f"{also.found}; it alone lets in 192.0.2.7 of the last 24 hours"
    assert "`appliance allow extend 192.0.2.0/24 --for 7d`" in str(alone.next_step)


def test_what_the_units_keep_out() -> None:
    (one,) = allowlist_verdicts([], [Stopped(unit="appliance.socket", networks=("192.0.2.0/24",))])
    assert one.level == "warning"
    assert one.found == "IPAddressAllow= of appliance.socket does not let 192.0.2.0/24 through"
    assert "`systemctl restart appliance.socket`" in str(one.next_step)


def test_all_is_well() -> None:
    (one,) = allowlist_verdicts([], [])
    assert one.level == "ok"
