"""appliance.alerting.message: what is in a letter and in JSON is tested where it is delivered; here what is not."""

from __future__ import annotations

from appliance.alerting.alerts import Alert, Notice
from appliance.alerting.message import Sender, Told, letter, subject
from tests.unit.alerting.making import START

SENDER = Sender(host="box", version="1.2")


def alert(**more: object) -> Alert:
    fields = {"name": "GpuHot", "what": "g\x1b0", "severity": "warning", "state": "firing", "since": START}
    return Alert(summary="hot\nhot", **{**fields, **more})  # type: ignore[arg-type]


def test_of_a_notice() -> None:
    firing = Told.of(Notice("firing", alert(fired=START - 5)), START + 1)
    assert (firing.fired, firing.ended, firing.at, firing.status) == (START - 5, None, START + 1, "firing")
    assert (firing.what, firing.summary) == ("g\\x1b0", "hot\\x0ahot")
    over = Told.of(Notice("resolved", alert(state="resolved", fired=START - 5)), START + 1)
    assert (over.ended, over.status) == (START, "resolved")


def test_a_letter_says_the_worst_first_and_who_attends() -> None:
    over = Told.of(Notice("resolved", alert(state="resolved")), START)
    acked = Told.of(Notice("repeated", alert(name="Dead", severity="critical", acked_by="anna", note="soon")), START)
    assert subject((over, acked), SENDER) == "[CRITICAL] box: Dead g\\x1b0 (+1 more)"
    text = letter((over, acked), SENDER)
    assert "RESOLVED  GpuHot" in text
    assert "over since 2025-11-24 16:00:00 UTC" in text
    assert "anna attends to it: soon" in text
    assert text.endswith("-- \nbox, appliance 1.2\n")


def test_a_test_says_that_it_is_one() -> None:
    told = Told.test("anna", START)
    assert subject((told,), SENDER) == "[TEST] box: AlertTest test"
    assert "anna asked for" in letter((told,), SENDER)
    assert "what to do" not in letter((told,), SENDER)
