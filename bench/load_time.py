"""How long a load takes beside a bare llama.cpp load of the same file.

python -m bench.load_time [--rounds N] [--models FILE ...]

Ours is the whole way from the wish to `ready`: the file's header, room for the model, a worker, the load, the first
step. It is set against two peers with the same settings, one after the other in an order that alternates; files are in
the page cache.

bare process: a Python process that imports llama_cpp, loads the model, makes its context and computes one token, as
llama.cpp's own programs do before they serve; from its start to that token.
bare calls: in that same process, those calls alone: the import and the interpreter's start are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop
from msgspec import Struct

from appliance.alias_spec import ModelsFile
from appliance.gguf.facts import facts_of
from appliance.models.hardware import HardwareWatch
from appliance.models.instance import ModelInstance
from appliance.models.launcher import SpawnLauncher
from appliance.models.memory_ledger import MemoryLedger
from appliance.models.placer import Placer, read_model
from appliance.models.registry import Means, Registry
from appliance.models.snapshot import InstanceState
from appliance.models.spare import SpareLauncher
from appliance.placement.rules import kv_mode, slots
from appliance.types import ModelSpec
from bench.model_shapes import build_all
from bench.shape_model import build as build_random
from bench.source_archive import BUILD

_DEMO: Final = Path("appliance/demo/demo-chat-q8_0.gguf")
_SHAPES: Final = ("Qwen2.5-0.5B Q8_0", "Llama-3.2-1B", "Gemma-2-2B (window)")
# Long enough for whatever follows a load or an unloading to have come to rest.
_REST_SECONDS: Final = 1.0


class Turn(Struct, frozen=True):
    """In seconds. loader: of `ours`, what the worker's loader took. calls: of `process`, llama.cpp's calls alone."""

    ours: float
    loader: float
    process: float
    calls: float


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", type=Path, nargs="*")
    asked = parser.parse_args()
    head = ("model", "MiB", "ours, s", "its loader", "bare process", "bare calls", "ours / process", "ours / calls")
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    for name, path in _models(asked.models).items():
        turns = uvloop.run(_measure(path.resolve(), asked.rounds))
        print(f"| {name} | {path.stat().st_size / 2**20:,.0f} | {' | '.join(_cells(turns))} |", flush=True)


def _models(given: list[Path] | None) -> dict[str, Path]:
    if given:
        return {path.stem: path for path in given}
    shapes = build_all(BUILD / "shapes")
    chosen = {name: shapes[name] for name in _SHAPES}
    return {"demo model": _DEMO, "Qwen2.5-0.5B Q4_0, random weights": build_random(), **chosen}


async def _measure(path: Path, rounds: int) -> list[Turn]:
    """The first turn only fills the page cache."""
    turns = []
    async with _instance(path) as instance:
        for round_ in range(rounds + 1):
            if round_ % 2:
                ours, (process, calls) = await _ours(instance), await _bare(instance.spec)
            else:
                process, calls = await _bare(instance.spec)
                ours = await _ours(instance)
            turns.append(Turn(*ours, process, calls))
    return turns[1:]


@asynccontextmanager
async def _instance(path: Path) -> AsyncIterator[ModelInstance]:
    """As the daemon puts it together."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = SpareLauncher(SpawnLauncher())
        watch = HardwareWatch(SpawnLauncher())
        placer = Placer(watch, MemoryLedger(Path(folder) / "memory.json"), time.monotonic)
        models = ModelsFile(models=(ModelSpec(id="m", path=str(path), preload=False),))
        registry = Registry(models, Means(launcher, finder=placer))
        watch.start()
        registry.start()
        await watch.first.wait()
        instance = registry.instance("m")
        assert instance is not None
        try:
            yield instance
        finally:
            await registry.close(0)
            await launcher.close()
            await watch.close()


async def _ours(instance: ModelInstance) -> tuple[float, float]:
    """From the wish to `ready`, and the loader's own part."""
    await asyncio.sleep(_REST_SECONDS)
    instance.settled.clear()
    began = time.perf_counter()
    instance.load()
    await instance.settled.wait()
    seconds = time.perf_counter() - began
    snapshot = instance.snapshot()
    assert instance.state is InstanceState.READY and snapshot.info is not None, snapshot.reason
    # What a load is followed by must not weigh upon the next turn.
    await asyncio.sleep(_REST_SECONDS)
    await instance.unload(0)
    return seconds, snapshot.info.load_seconds


async def _bare(spec: ModelSpec) -> tuple[float, float]:
    """From the start of a process to its first token, and llama.cpp's calls alone."""
    await asyncio.sleep(_REST_SECONDS)
    return await asyncio.to_thread(_run_bare, spec.path, json.dumps(_context_params(spec)))


def _run_bare(path: str, params: str) -> tuple[float, float]:
    began = time.perf_counter()
    command = [sys.executable, str(Path(__file__).with_name("bare_load.py")), path, params]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        calls = float(process.stdout.readline())
        seconds = time.perf_counter() - began
        process.kill()
    return seconds, calls


def _context_params(spec: ModelSpec) -> dict[str, int | bool]:
    """What our loader gives llama.cpp for it."""
    facts = facts_of(read_model(Path(spec.path)))
    kv = kv_mode(spec, facts.context_length, facts.recurrent)
    sequences = slots(spec, kv)
    threads = len(os.sched_getaffinity(0))
    return {
        "n_ctx": spec.n_ctx,
        "n_batch": spec.n_batch,
        "n_ubatch": spec.n_ubatch,
        "n_seq_max": sequences,
        "n_outputs_max": sequences,
        "kv_unified": kv == "unified",
        "swa_full": True,
        "n_threads": threads,
        "n_threads_batch": threads,
    }


def _cells(turns: list[Turn]) -> list[str]:
    """Medians; of the ratios those of the turns, with the quartiles."""
    times = [[getattr(turn, name) for turn in turns] for name in Turn.__struct_fields__]
    ratios = [[turn.ours / turn.process for turn in turns], [turn.ours / turn.calls for turn in turns]]
    return [*(f"{statistics.median(values):.2f}" for values in times), *(_spread(values) for values in ratios)]


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"**{middle:.2f}** ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    main()
