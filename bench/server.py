"""A server under measurement, as the drivers see it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from bench.lean_client import LeanClient

_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)

_STOP_SECONDS_MAX: Final = 60


class Server(Protocol):
    """Runs already; stopped by whoever started it."""

    async def connect(self) -> LeanClient:
        """A client with nothing under way."""
        ...

    def peak_mib(self) -> dict[str, float]:
        """The largest resident size so far of each process, by name."""
        ...


def end_cleanly_on_sigterm() -> None:
    """SIGTERM then ends this process as an exception would, so that the servers it started are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server that this process started: asks, and kills where that takes too long."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def peak_mib(pid: int) -> float:
    """VmHWM of a process in MiB."""
    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    assert found is not None, "a zombie has no memory"
    return int(found[1]) / 1024
