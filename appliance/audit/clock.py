"""The clocks of audit records; tests pass their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.audit.record import Moment, to_microseconds
from appliance.clock import Clock, utc_now


def since_boot() -> int:
    """µs since the host started, its sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def boot_id() -> str:
    """Names this start of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").replace("-", "")[:12]


@dataclass(frozen=True, slots=True)
class HostClock:
    """now: UTC. mono: µs since the start of the host that `boot` names."""

    now: Clock
    mono: Callable[[], int]
    boot: str

    @classmethod
    def of_host(cls, now: Clock = utc_now) -> HostClock:
        """This host's clocks, the wall clock replaced by `now`."""
        return cls(now, since_boot, boot_id())

    def moment(self) -> Moment:
        """Clock."""
        return Moment(to_microseconds(self.now()), self.mono(), self.boot)
