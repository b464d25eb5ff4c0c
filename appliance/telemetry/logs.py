"""The service log: one plain line per event on stderr, where systemd's journal or a terminal takes it."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from appliance.errors import ConfigError
from appliance.safe_text import safe_text, without_secrets

LEVELS: Final = ("debug", "info", "warning", "error")
_LINE_CHARS_MAX: Final = 16_384


class LineFormatter(logging.Formatter):
    """`<UTC time> <LEVEL> <logger>: <message>`; a message is one line, a traceback keeps its own."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line, safe to show in a terminal."""
        record.message = safe_text(record.message, _LINE_CHARS_MAX)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Without secrets, in a traceback too: nothing logs one on purpose, and this is for what is not on purpose."""
        return without_secrets(super().format(record))


def configure(level: str) -> None:
    """Sends every logger to stderr. Called once, by the process's entry point. Raises ConfigError."""
    if level.lower() not in LEVELS:
        raise ConfigError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
