"""What the audit log does beside writing: encrypting closed segments, and noting the head of the chain elsewhere.

A thread of its own, so that neither a large segment nor a removable disk that hangs keeps records waiting.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from pathlib import Path
from typing import Final

from appliance.audit.anchor import Checkpoint, append_checkpoint
from appliance.audit.packing import pack
from appliance.audit.seals import Seal
from appliance.audit.segments import Listing, SegmentFiles
from appliance.audit.signed import peek_line
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher

_CLOSE_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


class Chores:
    """anchor: the file that gets the head, or None.

    For any thread: `trouble`, why a closed segment is not encrypted, and `anchor_trouble`, why the head is not noted.
    """

    def __init__(self, folder: Path, cipher: Cipher, anchor: Path | None) -> None:
        self._folder = folder
        self._cipher = cipher
        self.anchor: Final = anchor
        self._closing = False
        self.trouble: str | None = None
        self.anchor_trouble: str | None = None
        self._wanted: queue.SimpleQueue[Checkpoint | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit-chores", daemon=True)
        self._thread.start()

    def look(self, checkpoint: Checkpoint) -> None:
        """Notes the head, and encrypts what is closed. Returns at once; wakes that pile up are done as one."""
        self._wanted.put(checkpoint)

    def wake(self) -> None:
        """A segment was closed."""
        self._wanted.put(None)

    def close(self) -> None:
        """Ends the thread; a disk that hangs is waited for 10 s. What is not encrypted yet, the next start does."""
        self._closing = True
        self._wanted.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        noted = 0
        while not self._closing:
            wanted = [self._wanted.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    wanted.append(self._wanted.get_nowait())
            heads = [checkpoint for checkpoint in wanted if checkpoint is not None]
            if heads and heads[-1].seq > noted:
                self._note(heads[-1])
                noted = heads[-1].seq
            self._pack_all()

    def _note(self, checkpoint: Checkpoint) -> None:
        if self.anchor is None:
            return
        try:
            append_checkpoint(self.anchor, checkpoint)
        except OSError as error:
            trouble = f"the anchor of the audit log, {self.anchor}, cannot be written: {error.strerror or error}"
            if trouble != self.anchor_trouble:
                _log.warning("%s", trouble)
            self.anchor_trouble = trouble
        else:
            self.anchor_trouble = None

    def _pack_all(self) -> None:
        trouble = None
        try:
            listing = Listing.of(self._folder)
        except OSError as error:
            self.trouble = f"{self._folder} cannot be read: {error.strerror}"
            return
        for number in sorted(listing.plain & listing.seals):
            if self._closing:
                break
            try:
                _pack_one(listing.files(number), self._cipher)
            except (OSError, StateError) as error:
                trouble = trouble or f"audit segment {number} is not encrypted: {error}"
        if trouble is not None and trouble != self.trouble:
            _log.error("%s", trouble)
        self.trouble = trouble


def _pack_one(files: SegmentFiles, cipher: Cipher) -> None:
    seal = peek_line(files.seal.read_bytes(), Seal)
    if seal is None:
        raise StateError(f"{files.seal} is no seal; run `appliance audit verify`")
    pack(files, seal.sha256, cipher)
