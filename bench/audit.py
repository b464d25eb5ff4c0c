"""What the audit log costs: the caller, the writer's thread, and who verifies it afterwards.

python -m bench.audit [--seconds 20]

The load is 1,000 events a second in bursts of ten, as 1,000 requests a second would bring; the log runs with its
default settings on the disk of the temporary folder. Processor time is that of each thread, by the kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil
import uvloop
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.access_config import Audit
from appliance.audit.keys import SealKey, VerificationKey
from appliance.audit.log import AuditLog
from appliance.audit.record import Actor, AuditEvent
from appliance.audit.verify import verify

RATE: Final = 1000
BURST: Final = 10
CALLS: Final = 50_000
DURABLE: Final = 200
ACTOR: Final = Actor(principal="app:search", role="inference", credential="kid0123456789", address="10.0.0.7")


class AesGcm:
    """As the keyring encrypts, with one key."""

    def __init__(self) -> None:
        self._aead = AESGCM(AESGCM.generate_key(256))

    def seal(self, record_id: str, plaintext: bytes) -> bytes:
        """Nonce and ciphertext."""
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, plaintext, record_id.encode())

    def unseal(self, record_id: str, sealed: bytes) -> bytes:
        """The inverse."""
        return self._aead.decrypt(sealed[:12], sealed[12:], record_id.encode())


def event(number: int) -> AuditEvent:
    """One of a chat request."""
    return AuditEvent(
        action="chat.completions",
        outcome="allow",
        actor=ACTOR,
        resource="model:demo-chat",
        request_id=f"req-{number:012}",
        tokens=(1200, 340),
        milliseconds=5120,
    )


async def calling(log: AuditLog) -> None:
    """The caller's side, and how fast the thread takes what comes."""
    events = [event(number) for number in range(CALLS)]
    began = time.thread_time()
    for one in events:
        log.append(one)
    called = (time.thread_time() - began) / CALLS
    began = time.perf_counter() - called * CALLS
    await log.append_durably(event(CALLS))
    print(f"append       {called * 1e6:8.2f} µs for the caller (its event is made already)")
    print(f"throughput   {CALLS / (time.perf_counter() - began):8.0f} records/s, {log.counters.lost} lost")
    waits = []
    for number in range(DURABLE):
        began = time.perf_counter()
        await log.append_durably(event(number))
        waits.append((time.perf_counter() - began) * 1000)
    waits.sort()
    print(f"durably      {statistics.median(waits):8.2f} ms p50, {waits[int(DURABLE * 0.99)]:.2f} ms p99")


async def serving(log: AuditLog, seconds: float) -> None:
    """Shares of a core at RATE, with what the same loop costs without the log taken off."""
    idle_loop, _, _ = await _load(None, seconds)
    loop, process, late = await _load(log, seconds)
    print(f"at {RATE}/s    {(loop - idle_loop) * 100:8.2f} % of a core on the event loop, events made there included")
    print(f"             {(process - loop) * 100:8.2f} % of a core in the log's threads")
    print(f"             {late * 1000:8.2f} ms p99 that a timer of the loop was late")


async def _load(log: AuditLog | None, seconds: float) -> tuple[float, float, float]:
    began, number, late = time.perf_counter(), 0, []
    loop_began, process_began = time.thread_time(), time.process_time()
    while (now := time.perf_counter() - began) < seconds:
        due = number / RATE
        if due > now:
            await asyncio.sleep(due - now)
        late.append(max(0.0, time.perf_counter() - began - due))
        if log is not None:
            for offset in range(BURST):
                log.append(event(number + offset))
        number += BURST
    wall = time.perf_counter() - began
    late.sort()
    return (
        (time.thread_time() - loop_began) / wall,
        (time.process_time() - process_began) / wall,
        late[int(len(late) * 0.99)],
    )


def verifying(folder: Path, cipher: AesGcm, k0: VerificationKey) -> None:
    """Records a second, every MAC checked, from encrypted segments."""
    began = time.perf_counter()
    report = verify(folder, cipher=cipher, k0=k0)
    took = time.perf_counter() - began
    assert not report.findings and report.macs == report.records
    size = sum(path.stat().st_size for path in folder.glob("*.log.enc"))
    print(f"verify       {report.records / took:8.0f} records/s with every MAC, {report.records} records")
    print(f"on disk      {size / report.records:8.0f} bytes a record, compressed and encrypted")


async def measure(folder: Path, seconds: float) -> None:
    """Prints the table."""
    cipher = AesGcm()
    log = AuditLog.open(folder, Audit(), cipher, SealKey.generate())
    try:
        k0 = VerificationKey.decode(log.take_verification_key())
        await calling(log)
        await serving(log, seconds)
        await log.close_segment()
        await asyncio.to_thread(_wait_until_packed, folder)
    finally:
        log.close()
    verifying(folder, cipher, k0)


def _wait_until_packed(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while (folder / "00000001.log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def main() -> None:
    """Measures in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    print(f"{psutil.cpu_count()} cores, Python {platform.python_version()}")
    with (
        tempfile.TemporaryDirectory(prefix="audit-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(Path(folder), seconds))


if __name__ == "__main__":
    main()
