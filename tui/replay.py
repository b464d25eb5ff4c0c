"""A stretch of the recording, and the moment of it that is shown. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final

from appliance.telemetry.snapshot import Snapshot

# What is fetched at once: half before the moment, half after it; a second each.
STRETCH_SECONDS: Final = 1200.0
_AGO: Final = re.compile(r"(\d{1,6})\s*([smhd])(?: ago)?")
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Replay:
    """Belongs to the app. snapshots: oldest first, at least one."""

    def __init__(self, snapshots: Sequence[Snapshot], moment: float) -> None:
        assert snapshots
        self.snapshots = tuple(snapshots)
        self._times = [one.time for one in snapshots]
        self.playing = False
        self._place = self._place_of(moment)

    @property
    def shown(self) -> Snapshot:
        """The snapshot of the moment."""
        return self.snapshots[self._place]

    @property
    def before(self) -> Sequence[Snapshot]:
        """Up to the moment, oldest first."""
        return self.snapshots[: self._place + 1]

    def step(self, count: int) -> bool:
        """So many snapshots on, or back; False where the stretch ends before that: the nearest is shown."""
        wanted = self._place + count
        self._place = max(0, min(len(self.snapshots) - 1, wanted))
        return wanted == self._place

    def skip(self, seconds: float) -> bool:
        """The same by time."""
        moment = self.shown.time + seconds
        self._place = self._place_of(moment)
        return self._times[0] <= moment <= self._times[-1]

    def _place_of(self, moment: float) -> int:
        return max(0, bisect_right(self._times, moment) - 1)


def moment_of(text: str, now: float, zone: tzinfo) -> float | None:
    """`02:30`, `02:30:15`, `2026-11-20 02:30`, `15m` ago: UTC seconds since 1970; None for anything else, or later.

    An hour that is still to come is of yesterday.
    """
    text = text.strip()
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    here = datetime.fromtimestamp(now, zone)
    try:
        if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text):
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M")
            found = here.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
            found = found if found <= here else found - timedelta(days=1)
        else:
            parsed = datetime.fromisoformat(text)
            found = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
    except ValueError:
        return None
    return found.timestamp() if found <= here else None
