"""How much room is left for the state, before there is none.

What cannot be recorded does not happen, so a full disk stops the service in any case; this stops it while there is
still room for administrators to do something about it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

from appliance.access_config import Audit

Room = Literal["enough", "low", "too_little"]

_log = logging.getLogger(__name__)


def room(free_bytes: int, settings: Audit) -> Room:
    """What so many free bytes mean. Pure."""
    if free_bytes < settings.disk_min_bytes:
        return "too_little"
    return "low" if free_bytes < settings.disk_warn_bytes else "enough"


class DiskGuard:
    """The file system of `folder`, as of the last `look`. Belongs to the event loop."""

    def __init__(self, folder: Path, settings: Audit) -> None:
        self._folder = folder
        self._settings = settings
        self.room: Room = "enough"
        self.free_bytes = 0
        self.total_bytes = 0

    def look(self) -> None:
        """One system call; a change is logged."""
        try:
            status = os.statvfs(self._folder)
        except OSError as error:
            _log.warning("%s: how much room is left cannot be asked: %s", self._folder, error.strerror)
            return
        self.free_bytes = status.f_bavail * status.f_frsize
        self.total_bytes = status.f_blocks * status.f_frsize
        found = room(self.free_bytes, self._settings)
        if found != self.room:
            level = logging.INFO if found == "enough" else logging.WARNING
            _log.log(level, "%s has %d MiB left: %s", self._folder, self.free_bytes // 2**20, _MEANING[found])
        self.room = found


_MEANING = {
    "enough": "that is enough again",
    "low": "make room soon",
    "too_little": "requests are refused until there is more (audit.disk_min_bytes)",
}
