"""What rules must remember of the past: counters of the last minutes, and when the daemon started."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from appliance.telemetry.snapshot import Snapshot

KEPT_SECONDS: Final = 900.0
SPACING_SECONDS: Final = 5.0
STARTS_MAX: Final = 64

# What counts, and of which thing; "" where there is one only.
Counter = tuple[str, str]


class History:
    """Fed with every Snapshot, in order. Holds KEPT_SECONDS / SPACING_SECONDS samples at most.

    starts: when earlier daemons of this appliance started, as far as it is known.
    """

    def __init__(self, starts: Iterable[float] = ()) -> None:
        self._samples: deque[tuple[float, dict[Counter, int]]] = deque()
        self._starts = sorted(starts)
        self._now: dict[Counter, int] = {}
        self._time = 0.0

    def add(self, snapshot: Snapshot) -> None:
        """`snapshot` is the newest. A clock that was set back begins anew."""
        self._time, self._now = snapshot.time, dict(_counters(snapshot))
        if self._samples and snapshot.time < self._samples[-1][0]:
            self._samples.clear()
        if not self._samples or snapshot.time - self._samples[-1][0] >= SPACING_SECONDS:
            self._samples.append((snapshot.time, self._now))
        while self._samples[0][0] < snapshot.time - KEPT_SECONDS:
            self._samples.popleft()
        if snapshot.started not in self._starts:
            self._starts = sorted([*self._starts, snapshot.started])
        while len(self._starts) > STARTS_MAX or (
            len(self._starts) > 1 and self._starts[1] < snapshot.time - KEPT_SECONDS
        ):
            del self._starts[0]

    def increase(self, name: str, what: str = "", *, seconds: float) -> int:
        """By how much a counter has grown in the last `seconds`, or since it is known; 0 where it began anew."""
        now = self._now.get((name, what))
        if now is None:
            return 0
        before = (
            counters[name, what]
            for time, counters in self._samples
            if time >= self._time - seconds and (name, what) in counters
        )
        return max(0, now - next(before, now))

    @property
    def starts(self) -> tuple[float, ...]:
        """Starts of the last KEPT_SECONDS and the one before them, oldest first."""
        return tuple(self._starts)

    @property
    def restarts(self) -> int:
        """Starts of the last KEPT_SECONDS that were not the first."""
        return max(0, len(self._starts) - 1)


def _counters(snapshot: Snapshot) -> Iterator[tuple[Counter, int]]:
    yield ("audit_write_errors", ""), snapshot.audit.write_errors
    if snapshot.auth_failures is not None:
        yield ("auth_failures", ""), snapshot.auth_failures
    for gpu in snapshot.gpus:
        if gpu.xid_errors is not None:
            yield ("xid_errors", gpu.uuid), gpu.xid_errors
