"""Verdicts on the allowlist: whom it is about to shut out, and whom it lets in and cannot come all the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.doctor.verdict import Verdict, fine, warning
from appliance.security.allow_endings import EntryEnding
from appliance.security.fence import NEXT, Stopped


def allowlist_verdicts(endings: Sequence[EntryEnding], stopped: Sequence[Stopped]) -> list[Verdict]:
    """endings: of its entries that end soon. stopped: what it lets in and systemd's units keep out."""
    found = [warning("allowlist", one.sentence, NEXT) for one in stopped]
    found += [_ending(one) for one in endings]
    return found or [fine("allowlist", "none of its entries ends within a day, and no unit keeps out what it lets in")]


def _ending(one: EntryEnding) -> Verdict:
    said = f"{one.what} ends on {one.until:%Y-%m-%d %H:%M} UTC"
    network = one.entry.network
    return warning(
        "allowlist",
        f"{said}; {one.shut_out}" if one.shut_out else said,
        f"`appliance allow extend {network} --for 7d`, then `appliance allow apply`, unless it is to end",
    )
