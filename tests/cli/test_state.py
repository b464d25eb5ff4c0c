"""`appliance status` on one screen."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.cli.common import Appliance
from appliance.cli.state import overview
from tests.cli.conftest import Command

GATE = {"open": 3, "accepted": 9, "denied_address": 1, "denied_rate": 2, "denied_cap": 3, "handshake_failed": 4}
STATUS: dict[str, Any] = {
    "running": True,
    "generation": 7,
    "degraded": [],
    "ending_soon": ["the server certificate: 2026-12-01 00:00 UTC"],
    "notes": ["a note"],
    "models": {"qwen": "ready", "far": "ready"},
    "connections": {"api": GATE},
    "audit": {"written": 5},
}
QWEN = {"id": "qwen", "generation": 1, "state": "ready", "progress": 1.0, "running": 3, "waiting": 2, "reason": None}
ALERT = {"name": "GpuHot", "what": "GPU-1", "severity": "critical", "state": "firing", "summary": "91 C"}
CERTIFICATES = {
    "server": {"active": {"not_after": "2026-12-01T00:00:00Z"}},
    "authorities": [{"name": "client", "current": {"not_after": "2030-01-01T00:00:00Z"}}],
}


def test_one_screen() -> None:
    alerts = {"alerts": [ALERT, {**ALERT, "state": "resolved"}, {**ALERT, "state": "acked", "acked_by": "wang"}]}
    found = overview(STATUS, {"instances": [QWEN]}, alerts, CERTIFICATES)
    assert list(found) == [
        *("state", "alerts", "models", "ends soon", "certificates", "connections", "audit", "notes", "generation")
    ]
    assert found["state"] == "well"
    assert found["alerts"] == ["CRITICAL GpuHot GPU-1: 91 C", "CRITICAL GpuHot GPU-1: 91 C (seen by wang)"]
    assert found["models"] == {"qwen": "ready, 3 running, 2 waiting", "far": "ready"}
    assert found["certificates"] == {"server": "until 2026-12-01 00:00 UTC", "client CA": "until 2030-01-01 00:00 UTC"}


def test_what_a_model_is_doing() -> None:
    loading = {**QWEN, "state": "starting", "progress": 0.5, "running": 0, "waiting": 0}
    failed = {**QWEN, "id": "far", "state": "failed", "running": 0, "waiting": 0, "reason": "no room"}
    newer = {**loading, "generation": 2}
    found = overview(STATUS, {"instances": [QWEN, newer, failed]}, {}, {})
    assert found["models"] == {"qwen": "ready, 3 running, 2 waiting; next: starting 50%", "far": "failed (no room)"}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a daemon would answer."""
    given = {
        "status": STATUS,
        "whoami": {"roles": ["viewer"]},
        "instances": {"instances": [QWEN]},
        "alerts": {"error": "there is no /admin/v1/alerts"},
        "certificates": CERTIFICATES,
    }
    monkeypatch.setattr(Appliance, "ask_each", lambda self, questions: {name: given[name] for name in questions})
    return given


def test_a_viewer_does_not_ask_for_certificates(cli: Command, answers: dict[str, Any]) -> None:
    out = cli("status").ok().out
    assert "certificates" not in out and "qwen  ready, 3 running, 2 waiting" in out
    answers["whoami"] = {"roles": ["operator"]}
    assert "until 2026-12-01" in cli("status").ok().out


def test_what_needs_attention_is_first_and_an_exit_code(cli: Command, answers: dict[str, Any]) -> None:
    answers["status"] = {**STATUS, "degraded": ["the disk is full"]}
    said = cli("status", columns=80)
    assert said.code == 1
    assert said.out.splitlines()[:3] == ["state            needs attention", "needs attention", "  - the disk is full"]
    assert max(map(len, said.out.splitlines())) <= 80


def test_an_error_is_one(cli: Command, answers: dict[str, Any]) -> None:
    answers["status"] = {"error": "no"}
    assert (cli("status").code, cli("status").err) == (1, "appliance: no\n")
