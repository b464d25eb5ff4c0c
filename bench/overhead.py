"""What TLS, HTTP and the process border add over the bare engine loop, as ratios within one run.

    python -m bench.overhead [--rounds 12]

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
import uvloop

from appliance.security.tls import client_context
from appliance.types import ModelSpec
from bench.bare_engine import BareEngine
from bench.lean_client import LeanClient
from bench.shape_model import build
from tests.models.vocabulary import word

STREAMS: Final = 8
STREAM_TOKENS: Final = 256
TTFT_REQUESTS: Final = 10
PROMPT_WORDS: Final = 32
MODEL: Final = Path("build/bench/shape-0.5b-q4_0.gguf")


def prompt(number: int) -> str:
    """A prompt that shares no beginning with its neighbours, so that no cache helps either side."""
    return "".join(word(number * 37 + offset * (number % 5 + 1)) for offset in range(PROMPT_WORDS))


class BareSide:
    """The engine loop alone."""

    def __init__(self, spec: ModelSpec) -> None:
        self._engine = BareEngine(spec)

    async def ttft(self, number: int) -> float:
        """Seconds to the first text of one request."""
        answer = self._engine.submit(prompt(number), 1)
        await asyncio.to_thread(answer.done.wait)
        return answer.first - answer.submitted

    async def rate(self, number: int) -> float:
        """Tokens per second over STREAMS streams."""
        began = time.monotonic()
        answers = [self._engine.submit(prompt(number + stream), STREAM_TOKENS) for stream in range(STREAMS)]
        for answer in answers:
            await asyncio.to_thread(answer.done.wait)
        return sum(answer.tokens for answer in answers) / (time.monotonic() - began)


class ApplianceSide:
    """The daemon, through the eyes of clients on kept-alive connections.

    daemon_cpu, client_cpu: processor time of the daemon and of these clients during all `rate`s, in seconds.
    """

    def __init__(self, clients: list[LeanClient], daemon: psutil.Process) -> None:
        self._clients = clients
        self._daemon = daemon
        self.daemon_cpu = self.client_cpu = 0.0

    async def ttft(self, number: int) -> float:
        """Seconds to the first text of one request."""
        return (await self._clients[0].stream(_body(number, 1)))[0]

    async def rate(self, number: int) -> float:
        """Tokens per second over STREAMS streams."""
        daemon, client, began = sum(self._daemon.cpu_times()[:2]), time.process_time(), time.monotonic()
        streams = [client.stream(_body(number + index, STREAM_TOKENS)) for index, client in enumerate(self._clients)]
        tokens = sum(count for _, count in await asyncio.gather(*streams))
        seconds = time.monotonic() - began
        self.daemon_cpu += sum(self._daemon.cpu_times()[:2]) - daemon
        self.client_cpu += time.process_time() - client
        return tokens / seconds


def _body(number: int, max_tokens: int) -> bytes:
    fields = {"stream": True, "temperature": 0, "ignore_eos": True}
    return msgspec.json.encode({"model": "bench", "prompt": prompt(number), "max_tokens": max_tokens, **fields})


async def measure(rounds: int, spec: ModelSpec, url: str, bundle: Path, daemon: psutil.Process) -> None:
    """Runs both sides in turns and prints the table. Turns are short, because a machine's speed drifts."""
    key, context = (bundle / "api.key").read_text().strip(), client_context(bundle)
    clients = [await LeanClient.connect(url, context, key) for _ in range(STREAMS)]
    bare, appliance = BareSide(spec), ApplianceSide(clients, daemon)
    sides = (bare, appliance)
    for side in sides:  # warms both up
        await side.rate(0)
    appliance.daemon_cpu = appliance.client_cpu = 0.0
    ttft: list[tuple[float, ...]] = []
    rates: list[tuple[float, ...]] = []
    for turn in range(rounds):
        for request in range(TTFT_REQUESTS):
            number = STREAMS + turn * TTFT_REQUESTS + request
            ttft.append(await _in_turn(sides, "ttft", number))
        rates.append(await _in_turn(sides, "rate", turn * STREAMS))
    for client in clients:
        client.close()
    _report(rounds, ttft, rates, appliance)


async def _in_turn(sides: tuple[BareSide, ApplianceSide], what: str, number: int) -> tuple[float, ...]:
    """Both sides' figure, the first one alternating."""
    order = sides if number // STREAMS % 2 else sides[::-1]
    figures = {side: await getattr(side, what)(number) for side in order}
    return tuple(figures[side] for side in sides)


def _report(rounds: int, ttft: list[tuple[float, ...]], rates: list[tuple[float, ...]], ours: ApplianceSide) -> None:
    bare_ttft, our_ttft = (statistics.median(times) * 1000 for times in zip(*ttft, strict=True))
    bare_rate, our_rate = (statistics.median(values) for values in zip(*rates, strict=True))
    added = statistics.median(appliance - bare for bare, appliance in ttft) * 1000
    lost = (1 - statistics.median(appliance / bare for bare, appliance in rates)) * 100
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {rounds} rounds, {MODEL.name}")
    print(f"TTFT p50     bare {bare_ttft:8.2f} ms    appliance {our_ttft:8.2f} ms    added {added:.2f} ms (paired)")
    print(
        f"{STREAMS} streams    bare {bare_rate:8.1f} tok/s appliance {our_rate:8.1f} tok/s lost {lost:.1f} % (paired)"
    )
    tokens = rounds * STREAMS * STREAM_TOKENS
    print(f"per token    daemon {ours.daemon_cpu / tokens * 1e6:.0f} µs, clients ", end="")
    print(f"{ours.client_cpu / tokens * 1e6:.0f} µs of processor time")


def main() -> None:
    """Starts a daemon of its own and measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
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
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(rounds, spec, url, state / "clients" / "demo", psutil.Process(daemon.pid)))
        finally:
            daemon.terminate()
            daemon.wait(60)


if __name__ == "__main__":
    main()
