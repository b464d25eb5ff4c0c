"""The service log on stderr, where systemd's journal or a terminal takes it: plain lines, or JSON."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from appliance.errors import ConfigError
from appliance.safe_text import safe_text, without_secrets
from appliance.telemetry.log_buffer import LINE_CHARS_MAX, LogBuffer, line_of
from appliance.telemetry.log_line import Level

LEVELS: Final = ("debug", "info", "warning", "error")
LogFormat = Literal["text", "json"]
# OpenTelemetry's SeverityNumber.
_SEVERITY: Final[dict[Level, int]] = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}


class LineFormatter(logging.Formatter):
    """`<UTC time> <LEVEL> <logger>: <message>`; a message is one line, a traceback keeps its own."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line, safe to show in a terminal."""
        record.message = safe_text(record.message, LINE_CHARS_MAX)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Without secrets, in a traceback too: nothing logs one on purpose, and this is for what is not on purpose."""
        return without_secrets(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the names of OpenTelemetry's log data model and attributes."""

    def format(self, record: logging.LogRecord) -> str:
        """A traceback is a field: the line stays one line."""
        line = line_of(record)
        said: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds"),
            "severity_text": record.levelname,
            "severity_number": _SEVERITY[line.level],
            "otel.scope.name": line.logger,
            "body": line.message,
        }
        further = {
            "appliance.request_id": line.request_id,
            "trace_id": line.trace_id,
            "exception.stacktrace": line.exception,
        }
        return msgspec.json.encode(
            said | {name: value for name, value in further.items() if value is not None}
        ).decode()


def configure(level: str, form: LogFormat = "text", buffer: LogBuffer | None = None) -> None:
    """Sends every logger to stderr and into `buffer`. Called once, by the process's entry point. Raises ConfigError."""
    if level.lower() not in LEVELS:
        raise ConfigError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter())
    handlers: list[logging.Handler] = [handler] if buffer is None else [handler, buffer]
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
