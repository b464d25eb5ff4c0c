"""Warnings about refused connections and requests, folded so that a flood cannot fill the log.

The first refusal of an address for a reason is logged at once. Those that follow are counted, and one line every
WINDOW_SECONDS gives their number. The table is bounded: what does not fit is counted in one sum.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.safe_text import safe_text

WINDOW_SECONDS: Final = 10.0
ENTRIES_MAX: Final = 256

# (address, reason, sentence, how often, principal): one line of the log.
Refused = Callable[[str, str, str, int, str | None], None]


@dataclass(slots=True)
class _Entry:
    sentence: str
    repeats: int = 0


class RefusalLog:
    """Belongs to one event loop, whose timer ends the windows. refused: is told of every line, for the audit log."""

    def __init__(self, logger: logging.Logger, refused: Refused | None = None) -> None:
        self._log = logger
        self._refused = refused
        self._entries: dict[tuple[str, str, str | None], _Entry] = {}
        self._others = 0
        self._window: asyncio.TimerHandle | None = None

    def record(self, address: str, reason: str, sentence: str, principal: str | None = None) -> None:
        """`address` was refused for `reason`; `sentence` completes "<address> …". principal: of its certificate."""
        key = (address, reason, principal)
        entry = self._entries.get(key)
        if entry is not None:
            entry.repeats += 1
        elif len(self._entries) >= ENTRIES_MAX:
            self._others += 1
        else:
            self._entries[key] = _Entry(sentence)
            self._warn(*key, sentence, 1)
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._end_window)

    def flush(self) -> None:
        """Writes what was counted; who was quiet in this window is forgotten."""
        entries, self._entries = self._entries, {}
        for key, entry in entries.items():
            if entry.repeats:
                again = f"{entry.sentence} ({entry.repeats} more in {WINDOW_SECONDS:.0f} s)"
                self._warn(*key, again, entry.repeats)
                self._entries[key] = _Entry(entry.sentence)
        if self._others:
            many = f"were refused {self._others} times in {WINDOW_SECONDS:.0f} s"
            self._warn("other addresses", "folded", None, many, self._others)
            self._others = 0

    def close(self) -> None:
        """Writes what was counted and stops the timer."""
        self.flush()
        if self._window is not None:
            self._window.cancel()
            self._window = None

    def _end_window(self) -> None:
        self._window = None
        self.flush()
        if self._entries:
            self._window = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._end_window)

    def _warn(self, address: str, reason: str, principal: str | None, sentence: str, times: int) -> None:
        who = address if principal is None else f"{address} (client {principal})"
        self._log.warning("%s", safe_text(f"{who} {sentence}"), extra={"address": address, "reason": reason})
        if self._refused is not None:
            self._refused(address, reason, sentence, times, principal)
