"""The newest lines of the service log in memory, for the admin API: the journal is not everybody's to read."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from msgspec import Struct

from appliance.safe_text import safe_lines, safe_text, without_secrets
from appliance.telemetry.log_context import ABOUT
from appliance.telemetry.log_line import Level, LogLine, at_least

LINE_CHARS_MAX: Final = 16_384
EXCEPTION_CHARS_MAX: Final = 16_384
PAGE_MAX: Final = 1_000
# What a line takes beside its text, about.
_LINE_BYTES: Final = 300
_formatter: Final = logging.Formatter()


class LogPage(Struct, frozen=True, kw_only=True):
    """lines: oldest first. newest: the number of the newest line there is, for what to ask for next.

    dropped: lines of this run that are not kept any more.
    """

    lines: tuple[LogLine, ...]
    newest: int
    dropped: int


class LogBuffer(logging.Handler):
    """Keeps the newest lines_max lines, about bytes_max bytes of them. Any thread logs and reads; none waits long.

    Lines of worker processes are not here: they write to the daemon's standard error by themselves.
    """

    def __init__(self, *, lines_max: int, bytes_max: int) -> None:
        super().__init__()
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._newest = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Under the handler's lock, which `handle` holds."""
        try:
            self._add(line_of(record, self._newest + 1))
        except Exception:
            # What cannot be formatted is reported as logging does it, and kills nobody.
            self.handleError(record)

    def page(
        self, *, level: Level = "debug", limit: int = PAGE_MAX, since: float | None = None, after: int = 0
    ) -> LogPage:
        """The newest `limit` lines of at least this level, said at `since` or later, with a number above `after`.

        A number that has not been reached is of an earlier run: then all are new.
        """
        wanted = at_least(level)
        found: list[LogLine] = []
        assert self.lock is not None, "every handler makes one"
        with self.lock:
            after = after if after <= self._newest else 0
            for line in reversed(self._lines):
                if len(found) >= limit or line.number <= after:
                    break
                if line.level in wanted and (since is None or line.time >= since):
                    found.append(line)
            return LogPage(lines=tuple(reversed(found)), newest=self._newest, dropped=self._newest - len(self._lines))

    def _add(self, line: LogLine) -> None:
        self._newest = line.number
        self._lines.append(line)
        self._bytes += _size(line)
        while len(self._lines) > self._lines_max or self._bytes > self._bytes_max:
            self._bytes -= _size(self._lines.popleft())


def line_of(record: logging.LogRecord, number: int = 0) -> LogLine:
    """A record as data: safe to show, without secrets."""
    about = ABOUT.get()
    exception = record.exc_text
    if exception is None and record.exc_info:
        exception = _formatter.formatException(record.exc_info)
    return LogLine(
        number=number,
        time=record.created,
        level=level_of(record.levelno),
        logger=record.name,
        message=safe_text(without_secrets(record.getMessage()), LINE_CHARS_MAX),
        exception=None if exception is None else safe_lines(without_secrets(exception))[-EXCEPTION_CHARS_MAX:],
        request_id=None if about is None else about.request_id,
        trace_id=None if about is None else about.trace_id,
    )


def level_of(number: int) -> Level:
    """The standard level at or below the number."""
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


def _size(line: LogLine) -> int:
    return _LINE_BYTES + len(line.logger) + len(line.message) + len(line.exception or "")
