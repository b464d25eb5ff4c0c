"""How fast the request log takes records and finds them, and what it weighs.

    python -m bench.request_log [--records 1000000] [--folder /tmp/requests] [--keep]

Records are made up: ten models, 200 principals, one request in a hundred refused or failed. Prints the records a second
of the insertions alone and of JSON lines written as the log before this one did; the time of pages for filters that are
served in different ways, each on a connection of its own, the median and the worst of five; what an event loop feels
that files records.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.errors import StateError
from appliance.store.connection import open_reader, open_writer, transaction
from appliance.telemetry.request_filter import parse
from appliance.telemetry.request_log import RequestLog
from appliance.telemetry.request_query import find, page, usage
from appliance.telemetry.request_record import AnswerEvidence, Outcome, RequestRecord
from appliance.telemetry.request_table import FILE, MIGRATIONS, insert
from appliance.types import FinishReason

START = 1_760_000_000.0
BATCH = 100
FILTERS = (
    "",
    "st>=400",
    "st:418",
    "st:429 model:qwen3-3",
    "model:qwen",
    "model:nothing",
    "key:principal-77",
    "key:principal-77 st>=400",
    "ip:10.3.7.0/24",
    "ip:10.3.7.0/24 error:queue",
    "dur>19.99",
    "dur>999",
    "ttft>2 !key:principal-7",
    "since:1h st>=500",
    "since:15m",
    "until:10d",
    "until:10d st>=500 stream:no",
    "outcome:client_gone",
    "id:ffff",
    '"principal-7"',
    '"no such thing"',
    "stream:no",
    "!stream:yes !st:200",
    "path:/v1/nothing",
)


def records(count: int, seed: int = 1) -> Iterator[RequestRecord]:
    """Ten a second."""
    draw = random.Random(seed)
    for number in range(count):
        error = draw.random() < 0.01
        principal = f"principal-{draw.randrange(200)}"
        outcome: Outcome = draw.choice(("refused", "failed")) if error else "ok"
        finish: FinishReason = draw.choice(("stop", "stop", "stop", "length"))
        yield RequestRecord(
            id=uuid.UUID(int=draw.getrandbits(128)).hex,
            time=START + number / 10,
            address=f"10.{draw.randrange(8)}.{draw.randrange(250)}.7",
            method="POST",
            path="/v1/chat/completions",
            outcome=outcome,
            status=draw.choice((401, 429)) if outcome == "refused" else 503 if outcome == "failed" else 200,
            total_seconds=round(draw.random() * 20, 6),
            principal=principal,
            key_id=f"key_{principal}",
            model=f"qwen3-{draw.randrange(10)}b-q4_k_m",
            alias="chat",
            stream=True,
            error_code="queue_full" if error else None,
            finish_reason=None if error else finish,
            prompt_tokens=draw.randrange(20_000),
            cached_tokens=draw.randrange(5_000),
            completion_tokens=draw.randrange(500),
            ttft_seconds=None if error else round(draw.random() * 2.001, 6),
            queue_seconds=None if error else round(draw.random() * 0.1, 6),
            prefill_seconds=None if error else round(draw.random(), 6),
            decode_seconds=None if error else round(draw.random() * 19, 6),
            system_fingerprint="fp_1234567890abcdef",
            evidence=AnswerEvidence(seed=draw.getrandbits(32), sampling={"temperature": 0.2}, max_tokens=1024),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true", help="use the file that a run before left")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        if not (options.keep and (folder / FILE).exists()):
            fill(folder, options.records)
        find_all(folder)
        for rate in (0, 20, 200):
            asyncio.run(serve(folder, rate))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def fill(folder: Path, count: int) -> None:
    """Both logs, and their figures."""
    connection = open_writer(folder / FILE, MIGRATIONS, check=True)
    lines = (folder / "requests.jsonl").open("ab", buffering=0)
    encode = msgspec.json.Encoder().encode
    seconds, busy = {"sqlite": 0.0, "lines": 0.0}, {"sqlite": 0.0, "lines": 0.0}
    slowest = 0.0
    batch: list[RequestRecord] = []
    for number, record in enumerate(records(count), start=1):
        batch.append(record)
        if len(batch) < BATCH and number < count:
            continue
        began, computed = time.perf_counter(), time.process_time()
        with transaction(connection):
            for one in batch:
                insert(connection, one)
        took = time.perf_counter() - began
        seconds["sqlite"] += took
        busy["sqlite"] += time.process_time() - computed
        slowest = max(slowest, took)
        began, computed = time.perf_counter(), time.process_time()
        for one in batch:
            os.write(lines.fileno(), encode(one) + b"\n")
            os.fstat(lines.fileno())
        seconds["lines"] += time.perf_counter() - began
        busy["lines"] += time.process_time() - computed
        batch = []
    connection.close()
    lines.close()
    print(f"{count} records, {BATCH} in a transaction; slowest transaction {slowest * 1000:.0f} ms")
    for name, file in (("sqlite", FILE), ("lines", "requests.jsonl")):
        size = (folder / file).stat().st_size
        print(
            f"{name:7} {count / seconds[name]:8.0f} records/s, {busy[name] / count * 1e6:4.0f} us of a core each, "
            f"{size / count:4.0f} bytes each, {size / 2**20:5.0f} MiB"
        )
    began = time.perf_counter()
    open_writer(folder / FILE, MIGRATIONS, check=True).close()
    print(f"quick check {time.perf_counter() - began:.2f} s")


def find_all(folder: Path) -> None:
    """Pages, one request, usage."""
    with open_reader(folder / FILE, MIGRATIONS) as connection:
        count, last = connection.execute("SELECT count(*), max(time) FROM requests").fetchone()
        identifier = connection.execute("SELECT id FROM requests LIMIT 1 OFFSET ?", (count // 3,)).fetchone()[0]
    now = last / 1e6
    print(f"{'filter':30} {'median ms':>10} {'worst':>7} {'CPU ms':>7} {'records':>8}  pages until full or at the end")
    for text in FILTERS:
        wanted, times, busy, pages, found, before = parse(text), [], [], 0, 0, None
        for _ in range(5):
            began, computed = time.perf_counter(), time.process_time()
            with open_reader(folder / FILE, MIGRATIONS) as connection:
                first = page(connection, wanted, now=now, limit=100, monotonic=time.monotonic)
            times.append((time.perf_counter() - began) * 1000)
            busy.append((time.process_time() - computed) * 1000)
        while pages == 0 or (found < 100 and before is not None):
            with open_reader(folder / FILE, MIGRATIONS) as connection:
                one = page(connection, wanted, now=now, limit=100, before=before, monotonic=time.monotonic)
            found, before, pages = found + len(one.records), one.before, pages + 1
        figures = f"{statistics.median(times):10.1f} {max(times):7.1f} {statistics.median(busy):7.1f}"
        print(f"{text:30} {figures} {len(first.records):8}  {pages}")
    began = time.perf_counter()
    with open_reader(folder / FILE, MIGRATIONS) as connection:
        assert find(connection, [identifier]) is not None
    print(f"one request by its id {(time.perf_counter() - began) * 1000:.1f} ms")
    for days in (1, 7, 30):
        began = time.perf_counter()
        with open_reader(folder / FILE, MIGRATIONS) as connection:
            rows = usage(connection, now - days * 86_400, now, ("principal", "model"))
        asked = sum(row.requests for row in rows)
        print(f"usage of {days} days: {time.perf_counter() - began:.2f} s, {asked} requests in {len(rows)} rows")


async def serve(folder: Path, rate: int, seconds: float = 10.0) -> None:
    """What an event loop feels that files `rate` records a second into the filled log, which has come to its bytes."""
    size = (folder / FILE).stat().st_size
    log = RequestLog(folder, retention_days=3660, bytes_max=size, clock=time.time)
    while True:
        with contextlib.suppress(StateError):
            log.reader.find(["checked by now"])
            break
    late: list[float] = []
    adding: list[float] = []
    made = records(int(rate * seconds) + 1, seed=2)
    busy, end, filed = time.process_time(), time.monotonic() + seconds, 0
    while (now := time.monotonic()) < end:
        await asyncio.sleep(0.001)
        late.append(time.monotonic() - now - 0.001)
        while filed < rate * (seconds - (end - time.monotonic())):
            began = time.perf_counter()
            log.add(next(made))
            adding.append(time.perf_counter() - began)
            filed += 1
    busy = time.process_time() - busy
    log.close()
    late.sort()
    worst_add = f"{max(adding) * 1e3:.2f} ms" if adding else "-"
    print(
        f"{rate:4} records/s: loop late p50 {late[len(late) // 2] * 1e3:.2f} p99 {late[-len(late) // 100] * 1e3:.1f}"
        f" worst {late[-1] * 1e3:.0f} ms; worst add {worst_add}; {busy / seconds:.1%} of a core; lost {log.lost}"
    )


if __name__ == "__main__":
    main()
