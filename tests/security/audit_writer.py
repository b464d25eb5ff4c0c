"""A process that writes audit records until it is killed. It tells the number of each one that is durable."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path

from appliance.access_config import Audit
from appliance.audit.keys import SealKey
from appliance.audit.log import AuditLog
from tests.unit.audit.making import AesCipher, event

SETTINGS = Audit(segment_bytes_max=16 * 1024, commit_seconds=0.001)


def write_for_ever(folder: Path, seal_key: bytes, acknowledged: Connection) -> None:
    """acknowledged: gets the sequence number of records that are durable."""
    asyncio.run(_write(folder, SealKey.from_bytes(seal_key), acknowledged))


async def _write(folder: Path, seal_key: SealKey, acknowledged: Connection) -> None:
    log = AuditLog.open(folder, SETTINGS, AesCipher(), seal_key)
    while True:
        for number in range(20):
            log.append(event(number))
        await log.append_durably(event(99, mark="durable"))
        acknowledged.send_bytes(b"%d" % log.head.seq)
