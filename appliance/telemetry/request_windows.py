"""Five minutes of RequestRecords in memory, and the figures of an hour."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

from appliance.telemetry.quantile import quantile
from appliance.telemetry.request_record import RequestRecord

WINDOW_SECONDS: Final = 300
WINDOWS_MAX: Final = 12
RECORDS_PER_WINDOW_MAX: Final = 10_000


class WindowSummary(Struct, frozen=True, kw_only=True):
    """Five minutes in figures. Latencies are seconds over the requests that have them, None without any."""

    start: float
    requests: int
    refused: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_p50: float | None
    ttft_p95: float | None


class Window:
    """The records that ended within one span of WINDOW_SECONDS; the newest RECORDS_PER_WINDOW_MAX of them."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.records: deque[RequestRecord] = deque(maxlen=RECORDS_PER_WINDOW_MAX)

    def summary(self) -> WindowSummary:
        """The window in figures."""
        ttft = sorted(r.ttft_seconds for r in self.records if r.ttft_seconds is not None)
        return WindowSummary(
            start=self.start,
            requests=len(self.records),
            refused=sum(r.outcome == "refused" for r in self.records),
            failed=sum(r.outcome == "failed" for r in self.records),
            prompt_tokens=sum(r.prompt_tokens for r in self.records),
            cached_tokens=sum(r.cached_tokens for r in self.records),
            completion_tokens=sum(r.completion_tokens for r in self.records),
            ttft_p50=quantile(ttft, 0.50),
            ttft_p95=quantile(ttft, 0.95),
        )


class RequestWindows:
    """The open window, and the figures of the WINDOWS_MAX before it, oldest first. Belongs to the event loop.

    The records of a closed window are on disk; kept here, an hour of them made the daemon grow by a tenth.
    """

    def __init__(self) -> None:
        self.open: Window | None = None
        self.closed: deque[WindowSummary] = deque(maxlen=WINDOWS_MAX)

    def add(self, record: RequestRecord) -> WindowSummary | None:
        """Files a record. Returns the figures of the window that it closed, if it opened a new one."""
        start = (record.time + record.total_seconds) // WINDOW_SECONDS * WINDOW_SECONDS
        closed = None
        if self.open is None or start > self.open.start:
            if self.open is not None:
                closed = self.open.summary()
                self.closed.append(closed)
            self.open = Window(start)
        self.open.records.append(record)
        return closed
