"""What request log, metrics, recorder, events and snapshots cost 8 streams: the appliance against itself without.

    python -m bench.telemetry [--rounds 12] [--shape 0.5b]

Both daemons run at once, each with a worker of its own that has the same model loaded, and are asked in turn, the first
one alternating; the other idles meanwhile. Without a shape it is the bundled demo model, which computes little:
the daemon is then most of the work, and the loss the most that it can be. Throughput is compared in pairs. On a busy
machine the processor time of the daemon for a token says more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import uvloop

import appliance
from appliance.types import ModelSpec
from bench.appliance_server import ApplianceServer, running_appliance
from bench.lean_client import MODEL, ApplianceClient
from bench.server import end_cleanly_on_sigterm
from bench.shape_model import SHAPES, build
from bench.workload import numbered

DEMO: Final = Path(appliance.__file__).parent / "demo" / "demo-chat-q8_0.gguf"
STREAMS: Final = 8
TOKENS: Final = 32
PROMPT_WORDS: Final = 8


@dataclass(frozen=True, slots=True)
class Turn:
    """rate: tokens a second. cpu: seconds of the daemon's processor time for a token."""

    rate: float
    cpu: float


class Side:
    """One daemon and its clients."""

    def __init__(self, clients: list[ApplianceClient], daemon: psutil.Process) -> None:
        self.clients = clients
        self._daemon = daemon

    @classmethod
    async def of(cls, server: ApplianceServer) -> Side:
        """With its connections made."""
        return cls([await server.connect() for _ in range(STREAMS)], server.daemon)

    async def turn(self, number: int) -> Turn:
        """STREAMS answers at once."""
        cpu, began = self._cpu(), time.monotonic()
        asked = [
            client.ask(numbered(number + index, PROMPT_WORDS, TOKENS)) for index, client in enumerate(self.clients)
        ]
        tokens = sum(recording.read().completion_tokens for recording in await asyncio.gather(*asked))
        return Turn(tokens / (time.monotonic() - began), (self._cpu() - cpu) / tokens)

    def _cpu(self) -> float:
        return sum(self._daemon.cpu_times()[:2])


async def measure(rounds: int, servers: tuple[ApplianceServer, ApplianceServer]) -> None:
    """Asks both in turn, and prints what the first one has and the second one has not."""
    sides = [await Side.of(server) for server in servers]
    for side in sides:  # warms both up
        await side.turn(0)
    pairs: list[tuple[Turn, Turn]] = []
    for number in range(1, rounds + 1):
        order = (0, 1) if number % 2 else (1, 0)
        turns = {at: await sides[at].turn(number * STREAMS) for at in order}
        pairs.append((turns[0], turns[1]))
    for side in sides:
        for client in side.clients:
            client.close()
    _report(pairs)


def _report(pairs: list[tuple[Turn, Turn]]) -> None:
    ratios = sorted(on.rate / off.rate for on, off in pairs)
    low, _, high = statistics.quantiles(ratios, n=4)
    on, off = ([pair[side] for pair in pairs] for side in (0, 1))
    rates = [statistics.median(turn.rate for turn in turns) for turns in (on, off)]
    cpu = [statistics.fmean(turn.cpu for turn in turns) * 1e6 for turns in (on, off)]
    added = cpu[0] - cpu[1]
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, {len(pairs)} rounds")
    print(f"{STREAMS} streams    on {rates[0]:.1f} tok/s   off {rates[1]:.1f} tok/s", end="")
    print(f"   on/off {statistics.median(ratios):.3f} (quartiles {low:.3f} to {high:.3f}, paired)")
    print(f"daemon       on {cpu[0]:.1f} µs   off {cpu[1]:.1f} µs of processor time a token: {added:+.1f} µs", end="")
    print(f", {added * rates[1] / 1e4 / (os.cpu_count() or 1):+.2f} % of all cores at this rate")


def main() -> None:
    """Starts two daemons and measures."""
    end_cleanly_on_sigterm()
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--shape", choices=SHAPES)
    asked = parser.parse_args()
    path = DEMO if asked.shape is None else build(SHAPES[asked.shape]).resolve()
    spec = ModelSpec(id=MODEL, path=str(path), parallel=STREAMS, n_ctx=4096, preload=True, threads=1)
    with (
        running_appliance(spec) as on,
        running_appliance(spec, module="bench.without_telemetry") as off,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(asked.rounds, (on, off)))


if __name__ == "__main__":
    main()
