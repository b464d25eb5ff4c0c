"""What TLS, HTTP and the process border add over the bare engine loop, as ratios within one run.

    python -m bench.overhead [--rounds 12] [--shape 7b]

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
import time
from typing import Final

import psutil
import uvloop

from appliance.types import ModelSpec
from bench.appliance_server import ApplianceServer, running_appliance
from bench.bare_engine import BareEngine
from bench.lean_client import MODEL, ApplianceClient
from bench.server import end_cleanly_on_sigterm
from bench.shape_model import SHAPES, build
from bench.workload import Question, numbered

STREAMS: Final = 8
STREAM_TOKENS: Final = 256
TTFT_REQUESTS: Final = 10
# The first token may end within a character, which makes no text yet.
TTFT_TOKENS: Final = 4
PROMPT_WORDS: Final = 32


def question(number: int, tokens: int) -> Question:
    """Shares no beginning with another number's, so that no cache helps either side. TTFT takes negative numbers."""
    return numbered(number, PROMPT_WORDS, tokens)


class BareSide:
    """The engine loop alone."""

    def __init__(self, spec: ModelSpec) -> None:
        self._engine = BareEngine(spec)

    async def ttft(self, number: int) -> float:
        """Seconds to the first text of one request."""
        answer = self._engine.submit(question(-number, TTFT_TOKENS))
        await asyncio.to_thread(answer.done.wait)
        return answer.first - answer.submitted

    async def rate(self, number: int) -> float:
        """Tokens per second over STREAMS streams."""
        began = time.monotonic()
        answers = [self._engine.submit(question(number + stream, STREAM_TOKENS)) for stream in range(STREAMS)]
        for answer in answers:
            await asyncio.to_thread(answer.done.wait)
        return sum(answer.tokens for answer in answers) / (time.monotonic() - began)


class ApplianceSide:
    """The daemon, through the eyes of clients on kept-alive connections.

    daemon_cpu, client_cpu: processor time of the daemon and of these clients during all `rate`s, in seconds.
    """

    def __init__(self, clients: list[ApplianceClient], daemon: psutil.Process) -> None:
        self._clients = clients
        self._daemon = daemon
        self.daemon_cpu = self.client_cpu = 0.0

    async def ttft(self, number: int) -> float:
        """Seconds to the first text of one request."""
        return (await self._clients[0].ask(question(-number, TTFT_TOKENS))).read().ttft

    async def rate(self, number: int) -> float:
        """Tokens per second over STREAMS streams."""
        daemon, client, began = sum(self._daemon.cpu_times()[:2]), time.process_time(), time.monotonic()
        asked = [client.ask(question(number + index, STREAM_TOKENS)) for index, client in enumerate(self._clients)]
        recordings = await asyncio.gather(*asked)
        seconds = time.monotonic() - began
        self.daemon_cpu += sum(self._daemon.cpu_times()[:2]) - daemon
        self.client_cpu += time.process_time() - client
        tokens = sum(recording.read().completion_tokens for recording in recordings)
        return tokens / seconds


async def measure(rounds: int, spec: ModelSpec, server: ApplianceServer) -> None:
    """Runs both sides in turns and prints the table. Turns are short, because a machine's speed drifts."""
    clients = [await server.connect() for _ in range(STREAMS)]
    bare, appliance = BareSide(spec), ApplianceSide(clients, server.daemon)
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
        rates.append(await _in_turn(sides, "rate", (turn + 1) * STREAMS))
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
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {rounds} rounds")
    print(f"TTFT p50     bare {bare_ttft:8.2f} ms    appliance {our_ttft:8.2f} ms    added {added:.2f} ms (paired)")
    print(
        f"{STREAMS} streams    bare {bare_rate:8.1f} tok/s appliance {our_rate:8.1f} tok/s lost {lost:.1f} % (paired)"
    )
    tokens = rounds * STREAMS * STREAM_TOKENS
    print(f"per token    daemon {ours.daemon_cpu / tokens * 1e6:.0f} µs, clients ", end="")
    print(f"{ours.client_cpu / tokens * 1e6:.0f} µs of processor time")


def main() -> None:
    """Starts a daemon of its own and measures."""
    end_cleanly_on_sigterm()
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    asked = parser.parse_args()
    path = build(SHAPES[asked.shape]).resolve()
    spec = ModelSpec(id=MODEL, path=str(path), parallel=STREAMS, n_ctx=8192, preload=True)
    with running_appliance(spec) as server:
        print(f"daemon at idle: {server.daemon.memory_info().rss / 2**20:.0f} MiB")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(asked.rounds, spec, server))


if __name__ == "__main__":
    main()
