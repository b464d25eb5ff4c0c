"""How long captured requests stay: so many days, and no more than so many bytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from appliance.access_config import Capture
from appliance.capture.day_file import DayFile, claim, files_of

_log = logging.getLogger(__name__)

# A file and its bytes.
Sized = tuple[DayFile, int]


def plan(files: Sequence[Sized], today: date, settings: Capture, need: int = 0) -> list[Sized]:
    """What must go, oldest first: what is older than retention_days, then what leaves no room for `need` bytes. Pure.

    A day's files go once retention_days whole days have passed since that day.
    """
    total = sum(size for _, size in files)
    oldest = today - timedelta(days=settings.retention_days)
    going = []
    for file, size in sorted(files):
        if file.day >= oldest and total + need <= settings.disk_bytes_max:
            break
        going.append((file, size))
        total -= size
    return going


def prune(folder: Path, today: date, settings: Capture, need: int = 0) -> int:
    """Removes what must go, and returns how many bytes are left. A file that is in use stays. Raises OSError."""
    files = []
    for file in files_of(folder):
        try:
            files.append((file, (folder / file.name).lstat().st_size))
        except FileNotFoundError:
            continue
    left = sum(size for _, size in files)
    for file, size in plan(files, today, settings, need):
        held = claim(folder / file.name)
        if held is None:
            continue
        with held:
            (folder / file.name).unlink()
        left -= size
        _log.info("captured prompts of %s were removed, %d bytes", file.day, size)
    return left
