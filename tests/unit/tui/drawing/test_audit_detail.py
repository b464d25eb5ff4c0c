"""tui.drawing.audit_detail"""

from __future__ import annotations

from datetime import UTC

import pytest

from tui.admin_data import AuditRow
from tui.drawing.audit_detail import audit_lines
from tui.glyphs import ASCII
from tui.lines import texts
from tui.look import Look

LOOK = Look(ASCII, UTC)


def shown(details: dict[str, str | int], outcome: str = "ok") -> list[str]:
    row = AuditRow(seq=7, ts="2026-11-20T00:00:00Z", action="x", outcome=outcome, details=details)
    return texts(audit_lines(row, 100, LOOK))


@pytest.mark.parametrize(
    ("details", "before", "after"),
    [
        ({"removed": "10.20.99.5/32 (api)", "added": "10.31.4.0/24"}, "10.20.99.5/32 (api)", "10.31.4.0/24"),
        ({"before": "ready", "after": "stopped"}, "ready", "stopped"),
        ({"kid": "k_99aa", "principal": "ci-bot"}, "-", "kid k_99aa"),
        ({"before": "client CA standby", "after": "client CA trust_both"}, "client CA standby", "client CA trust_both"),
    ],
)
def test_what_was_before_and_what_after(details: dict[str, str | int], before: str, after: str) -> None:
    assert shown(details)[1:3] == [f" - before: {before}", f" + after: {after}"]


def test_what_was_only_asked_for_is_not_said_to_be_done() -> None:
    assert shown({"before": "stopped", "after": "starting"}, "allow")[2] == " + to be: starting"


def test_other_details_are_told_and_no_change_is_made_up() -> None:
    lines = shown({"grace_hours": "24", "cut": 0})
    assert lines[1] == " grace_hours=24  cut=0   request -"
    assert len(lines) == 4
    assert audit_lines(None, 80, LOOK) == []
