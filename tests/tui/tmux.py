"""The dashboard in tmux: keys go in, and what the screen shows comes out."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

WAIT_SECONDS = 60.0
# What a key takes at least to show, and how often it is looked for after that: no time, for a machine may stand still.
_SETTLE_SECONDS = 0.4
_LOOKS_MAX = 60


@dataclass
class Tmux:
    """One session on a server of its own."""

    server: str

    def press(self, *keys: str) -> None:
        """Keys by tmux's names; a single character is itself."""
        for key in keys:
            before = self._styled()
            self._tmux("send-keys", *(("-l", key) if len(key) == 1 else (key,)))
            if len(key) > 1:
                # What is typed ahead would go where the focus was.
                time.sleep(_SETTLE_SECONDS)
                for _ in range(_LOOKS_MAX):
                    if self._styled() != before:
                        break
                    time.sleep(0.05)

    def text(self) -> str:
        """The screen."""
        return self._tmux("capture-pane", "-p")

    def _styled(self) -> str:
        return self._tmux("capture-pane", "-p", "-e")

    def wait(self, good: str | Callable[[str], bool], seconds: float = WAIT_SECONDS) -> str:
        """The screen once it has this text, or is good."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.text()
            if good in shown if isinstance(good, str) else good(shown):
                return shown
            assert time.monotonic() < deadline, f"{good} did not come:\n{shown}"
            time.sleep(0.2)

    def _tmux(self, *words: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self.server, *words], check=True, capture_output=True, text=True, timeout=60
        ).stdout


@contextlib.contextmanager
def in_tmux(command: Sequence[str], width: int = 80, height: int = 24) -> Iterator[Tmux]:
    """A command in a terminal of that size. Its session stays when it ends, so that its last words are seen."""
    made = Tmux(f"test-{uuid.uuid4().hex[:12]}")
    shell = f"{shlex.join(command)}; cat"
    made._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), shell)
    try:
        yield made
    finally:
        made._tmux("kill-server")
