"""The worst of several verdicts."""

from __future__ import annotations

from appliance.doctor.verdict import error, fine, warning, worst


def test_the_worst() -> None:
    assert worst([]) == "ok"
    assert worst([fine("a", "b"), warning("a", "b", "c")]) == "warning"
    assert worst([error("a", "b", "c"), fine("a", "b")]) == "error"
