"""What TLS, HTTP and the process border add over the bare engine loop, as ratios within one run.

    python -m bench.overhead [--rounds 5]

Both sides run the same GGUF with the same threads, prompts and token counts, one after the other in every round. Bare:
the engine loop in this process, timed from the prompt's text to the first text of the answer. Appliance: the real
daemon and worker over mutual TLS on kept-alive connections, timed by lean clients in this process, on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import psutil

from appliance.security.tls import client_context
from appliance.types import ModelSpec
from bench.bare_engine import BareEngine
from bench.lean_client import LeanClient
from bench.shape_model import build
from tests.models.vocabulary import word

STREAMS: Final = 8
STREAM_TOKENS: Final = 128
TTFT_REQUESTS: Final = 20
PROMPT_WORDS: Final = 32
MODEL: Final = Path("build/bench/shape-0.5b-q4_0.gguf")


def prompt(number: int) -> str:
    """A prompt that shares no beginning with its neighbours, so that no cache helps either side."""
    return "".join(word(number * 37 + offset * (number % 5 + 1)) for offset in range(PROMPT_WORDS))


class BareSide:
    """The engine loop alone."""

    def __init__(self, spec: ModelSpec) -> None:
        self._engine = BareEngine(spec)

    async def ttft(self, numbers: range) -> list[float]:
        """Seconds to the first text, one request after the other."""
        times = []
        for number in numbers:
            answer = self._engine.submit(prompt(number), 1)
            await asyncio.to_thread(answer.done.wait)
            times.append(answer.first - answer.submitted)
        return times

    async def throughput(self, numbers: range) -> float:
        """Tokens per second over all streams."""
        began = time.monotonic()
        answers = [self._engine.submit(prompt(number), STREAM_TOKENS) for number in numbers]
        for answer in answers:
            await asyncio.to_thread(answer.done.wait)
        return sum(answer.tokens for answer in answers) / (time.monotonic() - began)


class ApplianceSide:
    """The daemon, through the eyes of clients on kept-alive connections."""

    def __init__(self, clients: list[LeanClient]) -> None:
        self._clients = clients

    async def ttft(self, numbers: range) -> list[float]:
        """Seconds to the first text, one request after the other."""
        return [(await self._clients[0].stream(_body(number, 1)))[0] for number in numbers]

    async def throughput(self, numbers: range) -> float:
        """Tokens per second over all streams."""
        began = time.monotonic()
        streams = zip(self._clients, numbers, strict=True)
        answers = await asyncio.gather(*(client.stream(_body(number, STREAM_TOKENS)) for client, number in streams))
        return sum(tokens for _, tokens in answers) / (time.monotonic() - began)


def _body(number: int, max_tokens: int) -> bytes:
    fields = {"stream": True, "temperature": 0, "ignore_eos": True}
    return msgspec.json.encode({"model": "bench", "prompt": prompt(number), "max_tokens": max_tokens, **fields})


async def measure(rounds: int, spec: ModelSpec, url: str, bundle: Path, daemon: psutil.Process) -> None:
    """Runs both sides in turns and prints the table."""
    key, context = (bundle / "api.key").read_text().strip(), client_context(bundle)
    clients = [await LeanClient.connect(url, context, key) for _ in range(STREAMS)]
    sides: dict[str, BareSide | ApplianceSide] = {"bare": BareSide(spec), "appliance": ApplianceSide(clients)}
    ttft: dict[str, list[float]] = {name: [] for name in sides}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    cpu = 0.0
    number = 0
    for turn in range(rounds + 1):
        for name in sorted(sides, reverse=turn % 2 == 1):
            times = await sides[name].ttft(range(number, number + TTFT_REQUESTS))
            before = sum(daemon.cpu_times()[:2])
            rate = await sides[name].throughput(range(number, number + STREAMS))
            number += TTFT_REQUESTS
            if turn:  # the first turn warms both sides up
                ttft[name] += times
                rates[name].append(rate)
                cpu += sum(daemon.cpu_times()[:2]) - before if name == "appliance" else 0.0
    for client in clients:
        client.close()
    _report(rounds, ttft, rates, cpu / (rounds * STREAMS * STREAM_TOKENS))


def _report(rounds: int, ttft: dict[str, list[float]], rates: dict[str, list[float]], cpu: float) -> None:
    p50 = {name: statistics.median(times) * 1000 for name, times in ttft.items()}
    rate = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {rounds} rounds, {MODEL.name}")
    print(f"TTFT p50     bare {p50['bare']:8.2f} ms    appliance {p50['appliance']:8.2f} ms   ", end="")
    print(f"added {p50['appliance'] - p50['bare']:.2f} ms")
    print(f"{STREAMS} streams    bare {rate['bare']:8.1f} tok/s appliance {rate['appliance']:8.1f} tok/s ", end="")
    print(f"lost {(1 - rate['appliance'] / rate['bare']) * 100:.1f} %")
    print(f"daemon       {cpu * 1e6:.0f} µs of processor time a streamed token")


def main() -> None:
    """Starts a daemon of its own and measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    spec = ModelSpec(id="bench", path=str(build(MODEL).resolve()), parallel=STREAMS, n_ctx=8192, preload=True)
    with tempfile.TemporaryDirectory() as folder:
        models, state = Path(folder) / "models.yaml", Path(folder) / "state"
        models.write_bytes(msgspec.yaml.encode({"models": [msgspec.to_builtins(spec)]}))
        daemon = subprocess.Popen(
            [
                *(sys.executable, "-m", "appliance", "serve", "--port", "0"),
                *("--models", str(models), "--state-dir", str(state)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert daemon.stdout is not None
        for line in daemon.stdout:
            if line.startswith(b"Ctrl-C"):
                break
        try:
            url = (state / "run" / "api.url").read_text()
            print(f"daemon at idle: {psutil.Process(daemon.pid).memory_info().rss / 2**20:.0f} MiB")
            asyncio.run(measure(rounds, spec, url, state / "clients" / "demo", psutil.Process(daemon.pid)))
        finally:
            daemon.terminate()
            daemon.wait(60)


if __name__ == "__main__":
    main()
