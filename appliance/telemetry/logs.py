"""The service log: one plain line per event on stderr, where systemd's journal or a terminal takes it."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Final

# Control, bidirectional and invisible characters: what an untrusted text could steer a terminal or a log reader with.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_LINE_CHARS_MAX: Final = 16_384


def safe(text: str) -> str:
    """`text` with unsafe characters written as escapes; tabs and line ends stay."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class LineFormatter(logging.Formatter):
    """`<UTC time> <LEVEL> <logger>: <message>`; a message's own line ends are escaped, a traceback's are kept."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line, safe to show in a terminal."""
        record.message = safe(record.message.replace("\n", "\\n"))[:_LINE_CHARS_MAX]
        return super().formatMessage(record)


def configure(level: str) -> None:
    """Sends every logger to stderr. Called once, by the process's entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
