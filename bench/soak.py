"""Hours of mixed load with aborts on the real daemon, looked at whenever it comes to rest: does anything grow?

    python -m bench.soak [--minutes 60] [--busy 0.35]

Two clients chat, complete, ask for several answers, for log probabilities, with all kinds of sampling, past their
deadlines, and hang up at any moment. Every round ends in a pause: then the worker compares its books with its cache and
would end if they differed, and this process reads memory and file descriptors. It fails when a worker was replaced, a
file descriptor is left over, or memory grew by more than 5 % after the first quarter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from tests.e2e.appliance_process import Appliance, run_command, running_appliance

GROWTH_MAX: Final = 0.05
ROUND_SECONDS: Final = 50.0
REST_SECONDS: Final = 4.0
CLIENTS: Final = 8
MODEL: Final = Path("appliance/demo/demo-chat-q8_0.gguf").resolve()
SAMPLING: Final[tuple[dict[str, Any], ...]] = (
    {"temperature": 0},
    {"temperature": 1.2, "top_k": 0, "min_p": 0.02},
    {"mirostat": 2},
    {"dry_multiplier": 0.8, "repeat_penalty": 1.1},
    {"xtc_probability": 0.5, "typical_p": 0.9, "logit_bias": {"15": 3, "16": -100}},
    {"top_n_sigma": 1.5, "seed": 7},
)


@dataclass(frozen=True)
class Rest:
    """What was found while nothing was asked: bytes of memory and counts."""

    daemon_rss: int
    worker_rss: int
    daemon_fds: int
    worker_fds: int
    worker_pid: int


class Load:
    """Requests at random until `until`; `outcomes` counts what became of them."""

    def __init__(self, session: aiohttp.ClientSession, source: random.Random, busy: float) -> None:
        self._session = session
        self._source = source
        self._busy = busy
        self.outcomes: Counter[str] = Counter()

    async def run(self, until: float) -> None:
        """One client: asks, and pauses so that the machine is busy about `busy` of the time."""
        while (began := time.monotonic()) < until:
            try:
                self.outcomes[await self._ask()] += 1
            except (aiohttp.ClientError, ConnectionError) as error:
                self.outcomes[type(error).__name__] += 1
            await asyncio.sleep((time.monotonic() - began) * (1 / self._busy - 1))

    async def _ask(self) -> str:
        source, chat = self._source, self._source.random() < 0.6
        words = " ".join(
            source.choice(("key", "lock", "model", "rotate", "slot")) for _ in range(source.randint(1, 400))
        )
        system = "You answer briefly. " * source.choice((1, 30, 60))
        body: dict[str, Any] = {"model": "demo", "max_tokens": source.randint(1, 120), "stream": source.random() < 0.7}
        body |= source.choice(SAMPLING)
        if chat:
            body["messages"] = [{"role": "system", "content": system}, {"role": "user", "content": words}]
            body |= source.choice(({}, {}, {"logprobs": True, "top_logprobs": 3}))
        else:
            body["prompt"] = system + words
        body |= source.choice(({}, {}, {}, {"n": 3}, {"deadline_seconds": 0.2}, {"user": str(source.randint(0, 5))}))
        async with self._session.post("/v1/chat/completions" if chat else "/v1/completions", json=body) as answer:
            if source.random() < 0.25:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(answer.content.read(source.randint(1, 2000)), source.random() * 0.5)
                answer.close()
                return "hung up"
            await answer.read()
            return str(answer.status)


async def soak(appliance: Appliance, minutes: float, busy: float) -> list[Rest]:
    """Rounds of load and rest; prints a line each."""
    source = random.Random(3)
    rests: list[Rest] = []
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        async with appliance.session() as mine, appliance.session("other") as others:
            loads = [Load(session, source, busy) for session in (mine, others) for _ in range(CLIENTS // 2)]
            until = min(end, time.monotonic() + ROUND_SECONDS)
            await asyncio.gather(*(load.run(until) for load in loads))
        await asyncio.sleep(REST_SECONDS)
        for load in loads:
            outcomes += load.outcomes
        rests.append(look(appliance))
        rest = rests[-1]
        print(
            f"{len(rests):4d} daemon {rest.daemon_rss / 2**20:.1f} MiB {rest.daemon_fds} fds, "
            f"worker {rest.worker_rss / 2**20:.1f} MiB {rest.worker_fds} fds, {dict(outcomes)}",
            flush=True,
        )
    return rests


def look(appliance: Appliance) -> Rest:
    """Reads the processes."""
    daemon = psutil.Process(appliance.process.pid)
    (worker,) = appliance.workers()
    return Rest(daemon.memory_info().rss, worker.memory_info().rss, daemon.num_fds(), worker.num_fds(), worker.pid)


def verdict(rests: list[Rest]) -> list[str]:
    """What leaks, in words. Memory is compared after the first quarter, when caches and pools have filled."""
    wrong = []
    settled, later = rests[len(rests) // 4], rests[len(rests) // 4 :]
    for name in ("daemon_rss", "worker_rss"):
        grown = statistics.median(getattr(rest, name) for rest in later[-5:]) / getattr(settled, name) - 1
        print(f"{name}: {grown * 100:+.1f} % since round {len(rests) // 4 + 1}")
        if grown > GROWTH_MAX:
            wrong.append(f"{name} grew by {grown * 100:.1f} %")
    wrong += [name for name in ("daemon_fds", "worker_fds") if getattr(rests[-1], name) > getattr(settled, name)]
    if len({rest.worker_pid for rest in rests}) > 1:
        wrong.append("the worker was replaced")
    return wrong


def main() -> None:
    """Runs on its own appliance in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--busy", type=float, default=0.35, help="share of the time that each client is asking")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models.yaml"
        fields = "n_ctx: 4096, parallel: 6, kv: unified, preload: true, threads: 1"
        models.write_text(f"models:\n  - {{id: demo, path: {MODEL}, {fields}}}\n")
        with running_appliance(Path(folder) / "site", "--models", models) as appliance:
            added = run_command("clients", "add", "other", "--state-dir", appliance.state)
            assert added.returncode == 0, added.stderr
            rests = asyncio.run(soak(appliance, arguments.minutes, arguments.busy))
            wrong = verdict(rests)
            if "Traceback" in appliance.log:
                wrong.append("an exception is in the log")
                print(appliance.log[-4000:])
    if wrong:
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
