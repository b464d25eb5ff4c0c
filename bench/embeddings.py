"""Whether embeddings starve chats on the same cores.

    python -m bench.embeddings [--rounds 3] [--seconds 10] [--rate 40] [--threads N] [--chat FILE.gguf]

Eight chat streams run alone, and beside so many one-text embeddings a second as Dify's indexing sends, in turns; the
gaps between the tokens of each stream are compared. Both models have workers of their own behind the real API on
loopback. The chat model is the bundled demo, or FILE; the embedding model has random weights in the shape of a small
real one (3 layers of 384, as bge-micro), and texts of about 50 tokens. A text that is not answered is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance.types import ModelSpec, SamplingParams
from tests.api.conftest import Api, running_api
from tests.models.pooled import Shape, build_bert

WORKER: Final = (sys.executable, "-m", "appliance.worker")
DEMO: Final = Path("appliance/demo/demo-chat-q8_0.gguf")
SHAPE: Final = Shape(size=384, layers=3, heads=12, feed_forward=1536)
STREAMS: Final = 8
TEXT_CHARS: Final = 50
ANSWER_TOKENS: Final = 64


@dataclass
class Round:
    """What one round saw. gaps: between two tokens of a stream. waits: of embeddings. Seconds."""

    gaps: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    errors: int = 0


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--chat", type=Path, default=DEMO)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-embeddings-") as folder:
        asyncio.run(_run(Path(folder) / "vectors.gguf", options))


async def _run(vectors: Path, options: argparse.Namespace) -> None:
    build_bert(vectors, "mean", context=512, shape=SHAPE)
    threads: dict[str, Any] = {} if options.threads is None else {"threads_batch": options.threads}
    specs = [
        ModelSpec(
            id="demo", path=str(options.chat.resolve()), parallel=STREAMS, sampling=SamplingParams(ignore_eos=True)
        ),
        ModelSpec(id="vectors", path=str(vectors), n_ctx=512, **threads),
    ]
    alone, beside = Round(), Round()
    async with running_api(specs=specs, command=WORKER) as api:
        await _chat(api, Round(), time.monotonic() + 1)
        await _embed(api, Round())
        for _ in range(options.rounds):
            await _round(api, alone, options.seconds, 0.0)
            await _round(api, beside, options.seconds, options.rate)
    _report("alone", alone)
    _report("beside", beside)
    ratio = _percentile(beside.gaps, 95) / _percentile(alone.gaps, 95)
    print(f"inter-token p95 beside over alone: {ratio:.2f}")


async def _round(api: Api, seen: Round, seconds: float, rate: float) -> None:
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(_chat(api, seen, until))
        while rate and time.monotonic() < until:
            group.create_task(_embed(api, seen))
            await asyncio.sleep(1 / rate)


async def _chat(api: Api, seen: Round, until: float) -> None:
    while time.monotonic() < until:
        answer = await api.chat(f"Tell me about {random.random()}", stream=True, max_tokens=ANSWER_TOKENS)
        seen.errors += answer.status != 200
        last = None
        async for line in answer.content:
            if line.startswith(b"data: {"):
                now = time.monotonic()
                if last is not None:
                    seen.gaps.append(now - last)
                last = now


async def _embed(api: Api, seen: Round) -> None:
    text = "".join(random.choices("abcdefghij klmnopqrst", k=TEXT_CHARS))
    began = time.monotonic()
    async with api.session.post("/v1/embeddings", json={"model": "vectors", "input": [text]}) as answer:
        body = await answer.read()
        seen.errors += answer.status != 200 or len(body) < SHAPE.size
    seen.waits.append(time.monotonic() - began)


def _report(name: str, seen: Round) -> None:
    gaps = ", ".join(f"p{share} {_percentile(seen.gaps, share) * 1e3:.1f}" for share in (50, 95, 99))
    print(f"{name:7} inter-token ms: {gaps}; {len(seen.gaps)} tokens, {seen.errors} errors", end="")
    if seen.waits:
        waits = ", ".join(f"p{share} {_percentile(seen.waits, share) * 1e3:.0f}" for share in (50, 95, 99))
        print(f"; {len(seen.waits)} embeddings, ms: {waits}", end="")
    print()


def _percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


if __name__ == "__main__":
    main()
