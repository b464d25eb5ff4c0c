"""Log lines: one line an event, whatever an untrusted text contains."""

from __future__ import annotations

import logging
import re

from appliance.telemetry.logs import LineFormatter


def formatted(message: str, *arguments: object) -> str:
    return LineFormatter().format(logging.LogRecord("a.b", logging.WARNING, "", 0, message, arguments, None))


def test_a_line_has_time_level_and_logger() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING a\.b: hello x", formatted("hello %s", "x"))


def test_untrusted_text_cannot_forge_a_line_or_drive_a_terminal() -> None:
    line = formatted("model %s", "x\n2026-01-01 INFO forged\x1b[31m\u202e\u2028")
    assert "\n" not in line
    assert "\x1b" not in line
    assert "\\x1b[31m\\u202e\\u2028" in line


def test_a_long_line_is_cut() -> None:
    assert len(formatted("x" * 100_000)) < 17_000
