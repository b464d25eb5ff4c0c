"""What of a change of the capture is recorded, and in which order."""

from __future__ import annotations

import pytest

from appliance.access_config import Capture
from appliance.audit.record import Actor
from appliance.security.capture_switch import change_of

BY = Actor(principal="anna")
OFF = Capture()
ALL = Capture(enabled=True)
TWO = Capture(enabled=True, principals=("b", "a"))


@pytest.mark.parametrize(
    ("before", "after", "action", "principals"),
    [
        (OFF, ALL, "capture.enabled", "all"),
        (OFF, TWO, "capture.enabled", "a, b"),
        (TWO, ALL, "capture.enabled", "all"),
        (ALL, TWO, "capture.enabled", "a, b"),
        (ALL, OFF, "capture.disabled", "all"),
        (TWO, OFF, "capture.disabled", "a, b"),
        (TWO, Capture(principals=("c",)), "capture.disabled", "a, b"),
    ],
)
def test_whoever_is_captured_from_now_on_is_named(
    before: Capture, after: Capture, action: str, principals: str
) -> None:
    event = change_of(before, after, BY)
    assert event is not None
    assert (event.action, event.actor, event.outcome) == (action, BY, "ok")
    assert event.details == {"principals": principals, "count": 0 if principals == "all" else 2}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OFF, OFF),
        (OFF, Capture(principals=("a",))),
        (TWO, Capture(enabled=True, principals=("a", "b"))),
        (ALL, Capture(enabled=True, retention_days=30)),
    ],
)
def test_what_changes_nobody_is_no_event(before: Capture, after: Capture) -> None:
    assert change_of(before, after, BY) is None
