"""appliance.audit.syslog_connection: where it leads; what goes through it is in test_siem and the alerts' delivery."""

from __future__ import annotations

import pytest

from appliance.audit.syslog_connection import parse_target
from appliance.errors import ConfigError


@pytest.mark.parametrize("target", ["", "host", "host:", ":514", "host:0", "host:70000", "host:x"])
def test_a_wrong_target_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=r"audit\.siem\.target .* is no host:port"):
        parse_target(target, "audit.siem.target")


def test_targets() -> None:
    assert parse_target("siem.example:6514", "target") == ("siem.example", 6514)
    assert parse_target("[::1]:6514", "target") == ("::1", 6514)
