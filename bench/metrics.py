"""How long `/metrics` takes to write.

    python -m bench.metrics [--models 64] [--keys 64]

Processor time of the thread that writes, which counts on a busy machine too.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time

from appliance.telemetry.metrics import Metrics
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import DeviceShare, ModelFigures, Snapshot

REQUESTS = 20_000
SCRAPES = 40
GIB = 2**30


def model(number: int) -> ModelFigures:
    """One that is loaded on a GPU."""
    share = DeviceShare(gpu="GPU-1", weights_bytes=4 * GIB, kv_bytes=GIB, compute_bytes=GIB)
    return ModelFigures(
        id=f"model-{number}",
        state="ready",
        slots=8,
        running=number % 8,
        kv_used=0.5,
        queue_depth_max=64,
        devices=(share,),
        load_seconds=3.5,
    )


def record(number: int, models: int, keys: int, luck: random.Random) -> RequestRecord:
    """A chat that fills most buckets over time."""
    return RequestRecord(
        id=f"r{number}",
        time=0.0,
        address="10.0.0.1",
        method="POST",
        path="/v1/chat/completions",
        outcome="ok" if number % 50 else "failed",
        status=200,
        total_seconds=luck.expovariate(0.2),
        key_id=f"k{number % keys}",
        model=f"model-{number % models}",
        finish_reason="stop" if number % 3 else "length",
        prompt_tokens=luck.randrange(1, 9000),
        completion_tokens=luck.randrange(2, 900),
        ttft_seconds=luck.expovariate(2),
        queue_seconds=luck.expovariate(8),
        prefill_seconds=luck.expovariate(2),
        decode_seconds=luck.expovariate(0.3),
    )


def main() -> None:
    """Counts requests, then writes them again and again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--keys", type=int, default=64)
    asked = parser.parse_args()
    luck, models = random.Random(1), tuple(map(model, range(asked.models)))
    seen = Snapshot(time=1.0, host_name="bench", version="1", started=0.0, models=models)
    metrics = Metrics(["/v1/chat/completions"], lambda: seen)
    metrics.look(seen)
    for number in range(REQUESTS):
        metrics.saw(record(number, asked.models, asked.keys, luck))
        metrics.sent(f"model-{number % asked.models}", luck.expovariate(30), 1)
    times = []
    for _ in range(SCRAPES):
        began = time.thread_time()
        text = metrics.text()
        times.append((time.thread_time() - began) * 1000)
    lines = text.count(b"\n")
    print(f"Python {platform.python_version()}, {lines} lines, {len(text) / 1e6:.2f} MB: ", end="")
    print(f"{statistics.median(times):.1f} ms, the fastest of {SCRAPES} {min(times):.1f} ms")


if __name__ == "__main__":
    main()
