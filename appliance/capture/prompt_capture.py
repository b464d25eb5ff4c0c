"""What the API and the daemon see of the capture."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from appliance.access_config import Capture
from appliance.capture.day_file import WriteCall
from appliance.capture.exchange import Exchange
from appliance.capture.retention import prune
from appliance.capture.writer import CaptureWriter, WriterStatus
from appliance.keyring.keyring import PurposeCipher
from appliance.safe_text import safe_text

OFF: Final = Capture()
ALL_NOTE: Final = "prompts of all principals are captured"

_log = logging.getLogger(__name__)


class PromptCapture:
    """Whose requests are captured, and the way to the one who writes. Belongs to the event loop.

    Off until `configure` says otherwise; then there is neither a thread nor a file. has_room: whether the disk has
    room for what nobody must have.
    """

    def __init__(
        self,
        folder: Path,
        cipher: PurposeCipher,
        now: Callable[[], datetime],
        *,
        has_room: Callable[[], bool] = lambda: True,
        write: WriteCall = os.write,
    ) -> None:
        self._folder = folder
        self._cipher = cipher
        self._now = now
        self._has_room = has_room
        self._write = write
        self._settings = OFF
        self._principals: frozenset[str] = frozenset()
        self._writer: CaptureWriter | None = None
        self._lost = 0
        self._losing: str | None = None

    @property
    def settings(self) -> Capture:
        """As they count now."""
        return self._settings

    def configure(self, settings: Capture) -> None:
        """From now on. What was captured stays until it has aged out, also once the capture is off."""
        self._settings = settings
        self._principals = frozenset(settings.principals)
        if self._writer is not None:
            self._writer.settings = settings
        elif settings.enabled:
            self._writer = CaptureWriter(self._folder, self._cipher, settings, self._now, write=self._write)

    def bytes_max(self, principal: str) -> int | None:
        """How much of a request of this principal is kept; None where nothing is."""
        settings = self._settings
        if not settings.enabled or (self._principals and principal not in self._principals):
            return None
        return settings.bytes_max

    def keep(self, exchange: Exchange) -> None:
        """Keeps a request unless its principal's are no longer captured. Never blocks, never raises."""
        writer = self._writer
        if writer is None or self.bytes_max(exchange.record.principal or "") is None:
            return
        if not self._has_room():
            self._lose("the disk has less room than audit.disk_warn_bytes")
        elif not writer.put(exchange):
            self._lose("the disk is slower than the requests")
        elif writer.has_caught_up:
            # Not before: where every other request finds room, the log would hear of every other one.
            self._losing = None

    def prune(self) -> None:
        """Removes what has been kept long enough. Blocks; any thread. Never raises."""
        try:
            prune(self._folder, self._now().astimezone(UTC).date(), self._settings)
        except OSError as error:
            _log.error("captured prompts in %s cannot be removed: %s", self._folder, error.strerror)

    def notes(self) -> list[str]:
        """What whoever asks for the appliance's status must know: that it captures whose prompts, and what it lost."""
        notes = []
        if self._settings.enabled:
            names = ", ".join(sorted(self._principals))
            count = f"{len(self._principals)} principal{' is' if len(self._principals) == 1 else 's are'}"
            notes.append(f"prompts of {count} captured: {safe_text(names)}" if names else ALL_NOTE)
        status = WriterStatus() if self._writer is None else self._writer.status
        if lost := status.lost + self._lost:
            why = self._losing or status.failure
            notes.append(f"requests that were not captured: {lost} ({why or 'now they are'})")
        return notes

    def close(self) -> None:
        """Writes what waits. Nothing is captured afterwards."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _lose(self, why: str) -> None:
        self._lost += 1
        if self._losing != why:
            _log.error("prompts are not captured: %s; requests go on without it", why)
        self._losing = why
