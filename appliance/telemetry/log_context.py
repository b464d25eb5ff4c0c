"""Which request the present task is about, for what is logged meanwhile.

The one thing here that is not passed as an argument: whoever logs, deep inside, knows nothing of requests. The value is
its task's own, and of the tasks that this one starts.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple


class LogContext(NamedTuple):
    """trace_id: None where the request is part of no trace."""

    request_id: str
    trace_id: str | None = None


ABOUT: Final[ContextVar[LogContext | None]] = ContextVar("about", default=None)
