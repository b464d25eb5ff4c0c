"""A process that captures requests until it is killed. It tells how many are written."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.unit.capture.making import Site, exchange


def write_for_ever(root: Path, prefix: str, written: Connection) -> None:
    """written: gets the number of requests whose records are on the disk; they are `<prefix>0`, `<prefix>1`, …."""
    writer = Site(root).writer()
    number = 0
    while True:
        while number < writer.status.kept + 50:
            writer.put(exchange(f"{prefix}{number}", answer="x" * (number % 7 * 500)))
            number += 1
        written.send_bytes(b"%d" % writer.status.kept)
        time.sleep(0.001)
