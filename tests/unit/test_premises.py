"""appliance.premises"""

from __future__ import annotations

from typing import Any

import pytest

from appliance.access_config import Admin, Audit
from appliance.config import Config
from appliance.premises import restart_needed


@pytest.mark.parametrize(
    ("audit", "needed"),
    [
        ({}, []),
        # The next pruning, within the hour, asks for these two.
        ({"retention_days": 7, "legal_hold": True}, []),
        ({"anchor": "/mnt/anchor", "retention_days": 7}, ["audit.anchor"]),
    ],
)
def test_of_the_audit_log_what_prunes_counts_at_once(audit: dict[str, Any], needed: list[str]) -> None:
    assert restart_needed(Config(), Config(audit=Audit(**audit))) == needed


def test_of_administration_the_socket_counts_after_a_restart() -> None:
    before, after = Config(), Config(admin=Admin(socket="/run/other.sock", two_persons=("key.revoke",)))
    assert restart_needed(before, after) == ["admin.socket"]
