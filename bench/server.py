"""A server under measurement, as the drivers see it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Protocol

from bench.lean_client import LeanClient

_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class Server(Protocol):
    """Runs already; stopped by whoever started it."""

    async def connect(self) -> LeanClient:
        """A client with nothing under way."""
        ...

    def peak_mib(self) -> dict[str, float]:
        """The largest resident size so far of each process, by name."""
        ...


def peak_mib(pid: int) -> float:
    """VmHWM of a process in MiB."""
    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    assert found is not None, "a zombie has no memory"
    return int(found[1]) / 1024
