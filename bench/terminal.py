"""A process in a terminal of its own, as an operator's is, and what it costs."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_SEEN_BYTES_MAX: Final = 2**20
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Terminal:
    """environ: besides our own. One thread uses it."""

    def __init__(self, command: Sequence[str], width: int, height: int, environ: Mapping[str, str] = {}) -> None:
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        # A size in the environment would hold whatever the terminal has.
        own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        given = {**own, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environ}
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=given,
            start_new_session=True,
            # What hangs up is a controlling terminal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.bytes = 0
        # The newest of what it wrote.
        self.seen = b""

    def read(self, seconds: float, until: bytes | None = None) -> float | None:
        """Takes what it writes for so long, or until these bytes come; when they did, after so many seconds."""
        began = time.perf_counter()
        seen = b""
        while (left := began + seconds - time.perf_counter()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                break
            try:
                chunk = os.read(self._fd, 65536)
            except OSError:
                # It has ended.
                break
            self.bytes += len(chunk)
            self.seen = (self.seen + chunk)[-_SEEN_BYTES_MAX:]
            if until is not None:
                seen += chunk
                if until in seen:
                    return time.perf_counter() - began
        return None

    def press(self, key: str) -> None:
        """One key."""
        os.write(self._fd, key.encode())

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def resize(self, width: int, height: int) -> None:
        """As if somebody pulled at the window."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def hang_up(self) -> None:
        """As if the connection was lost."""
        os.close(self._fd)
        self._fd = -1

    def wait(self, seconds: float) -> int | None:
        """Its exit code, once it has ended; None where it has not in so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self) -> float:
        """Resident memory, in 10^6 bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(one.split()[1]) for one in status.splitlines() if one.startswith("VmRSS")) * 1024 / 1e6

    def close(self) -> None:
        """Ends it, gently if it can."""
        if self._fd >= 0:
            if self._process.poll() is None:
                self.press("q")
                self.read(5.0)
            os.close(self._fd)
        self._process.kill()
        self._process.wait()
