"""Takes the records of an older release's log, JSON lines in rotated files, into the request log. Blocking; a chore.

They get the numbers before those of this release's records. A file is removed once all of it is taken over; what was
taken over is written down with the records themselves, so that a crash neither loses nor doubles one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Final

import msgspec

from appliance.store.connection import Connection
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.request_table import BEFORE, insert

OLD_FILE: Final = "requests.jsonl"
READ_BYTES: Final = 128 * 1024

_log = logging.getLogger(__name__)


class TakeOver:
    """Of the files in `folder`, the oldest first. Belongs to the thread that writes the request log."""

    def __init__(self, folder: Path, read_bytes: int = READ_BYTES) -> None:
        self._folder = folder
        self._read_bytes = read_bytes
        self._decoder = msgspec.json.Decoder(RequestRecord)
        self._taken = 0
        self._begun = False

    def step(self, connection: Connection, oldest: float) -> bool:
        """Takes over some records, those aside that are older than `oldest`. Whether there may be more.

        Raises sqlite3.Error; a file that cannot be read is left where it is, with a line in the log.
        """
        file = self._oldest_file()
        if file is None:
            if self._begun:
                _log.info("%d records of the request log's old files were taken over", self._taken)
            return False
        if not self._begun:
            _log.info("the request log takes over %s and older files, which are removed then", OLD_FILE)
            self._begun = True
        try:
            self._take(connection, file, oldest)
        except OSError as error:
            _log.error("%s cannot be taken over into the request log, and stays: %s", file, error.strerror)
            return False
        return True

    def _oldest_file(self) -> Path | None:
        files = {}
        for path in self._folder.glob(f"{OLD_FILE}*"):
            if found := re.fullmatch(re.escape(OLD_FILE) + r"(?:\.(\d{1,4}))?", path.name):
                files[int(found[1] or 0)] = path
        return files[max(files)] if files else None

    def _take(self, connection: Connection, file: Path, oldest: float) -> None:
        row = connection.execute("SELECT bytes FROM taken_over WHERE file = ?", (file.name,)).fetchone()
        place = 0 if row is None else int(row[0])
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            block = os.pread(fd, self._read_bytes, place)
        finally:
            os.close(fd)
        last = connection.execute("SELECT max(seq) FROM requests WHERE seq <= ?", (BEFORE,)).fetchone()[0] or 0
        if not block or last >= BEFORE:
            file.unlink()
            connection.execute("DELETE FROM taken_over WHERE file = ?", (file.name,))
            return
        # What has no end is no record of ours, or half of one.
        whole = block[: block.rfind(b"\n") + 1] or block
        for line in whole.splitlines():
            with contextlib.suppress(msgspec.MsgspecError, UnicodeError):
                record = self._decoder.decode(line)
                if record.time >= oldest and last < BEFORE:
                    last += 1
                    insert(connection, record, last)
                    self._taken += 1
        connection.execute("INSERT OR REPLACE INTO taken_over VALUES (?, ?)", (file.name, place + len(whole)))
