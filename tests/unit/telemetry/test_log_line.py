"""Log lines as data, and how those that say the same are folded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.log_line import Level, LogLine, at_least, folded


def said(number: int, message: str, level: Level = "info") -> LogLine:
    return LogLine(number=number, time=float(number), level=level, logger="a", message=message)


def test_what_says_the_same_is_one_line() -> None:
    lines = [said(1, "x"), said(2, "x"), said(3, "y"), said(4, "x"), said(5, "x", "error")]
    assert [(one.line.number, one.count, one.first) for one in folded(lines)] == [(3, 1, 3.0), (4, 3, 1.0), (5, 1, 5.0)]


def test_what_is_far_apart_stays_apart() -> None:
    lines = [said(1, "x"), said(2, "a"), said(3, "b"), said(4, "x")]
    assert [one.count for one in folded(lines, among=2)] == [1, 1, 1, 1]
    assert folded([]) == []


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 5))
def test_no_line_is_lost(messages: list[str], among: int) -> None:
    found = folded([said(number, message) for number, message in enumerate(messages)], among)
    assert sum(one.count for one in found) == len(messages)
    assert [one.line.number for one in found] == sorted(one.line.number for one in found)


def test_a_level_and_those_above_it() -> None:
    assert at_least("warning") == {"warning", "error", "critical"}
    assert len(at_least("debug")) == 5
