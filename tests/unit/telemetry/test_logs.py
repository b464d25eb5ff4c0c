"""Log lines: one line an event, whatever an untrusted text contains."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from appliance.telemetry.log_context import ABOUT, LogContext
from appliance.telemetry.logs import JsonFormatter, LineFormatter


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


def test_json_has_the_names_of_opentelemetry() -> None:
    try:
        raise ValueError("apl_sk_" + "k" * 12 + "_" + "s" * 40)
    except ValueError:
        record = logging.LogRecord("a.b", logging.WARNING, "", 0, "x\n\u202e %s", ("y",), sys.exc_info())
    token = ABOUT.set(LogContext("r1", "t1"))
    text = JsonFormatter().format(record)
    ABOUT.reset(token)
    said = json.loads(text)
    assert "\n" not in text and "s" * 40 not in text
    assert datetime.fromisoformat(said.pop("timestamp")).tzinfo is UTC
    assert "ValueError" in said.pop("exception.stacktrace")
    assert said == {
        "severity_text": "WARNING",
        "severity_number": 13,
        "otel.scope.name": "a.b",
        "body": "x\\x0a\\u202e y",
        "appliance.request_id": "r1",
        "trace_id": "t1",
    }
