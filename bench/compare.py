"""The appliance against llama-server of the same llama.cpp, on the same model, machine and requests, in one go.

    python -m bench.compare [--rows dify,one] [--repeat 3] [--shape 7b] [--kv auto] [--write] [--quick]

For every row each contestant starts fresh, runs it and stops, in turns whose order alternates. Builds what it needs
first (see llama_source, llama_build and shape_model); afterwards it needs no network.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

import psutil

from appliance.types import KvMode, ModelSpec
from appliance.worker.nvml import NvmlError, open_nvml
from bench import llama_build, shape_model
from bench.lean_client import MODEL
from bench.llama_source import fetch
from bench.report import markdown, write
from bench.results import Result, Results
from bench.rows import Row, all_rows
from bench.server import end_cleanly_on_sigterm
from bench.source_archive import BUILD

SLOTS: Final = 16
N_CTX: Final = SLOTS * 8192
DOCUMENT: Final = Path("docs/BENCHMARKS.md")


def run(rows: list[Row], repeats: int, results: Results, path: Path) -> None:
    """Measures; saves after every row, so that what an interrupted run has found is kept."""
    for repeat in range(repeats):
        for row in rows:
            for turn in range(repeat * row.turns, (repeat + 1) * row.turns):
                for contestant in _order(row, turn):
                    began = time.monotonic()
                    figures = row.entries[contestant]()
                    results.results.append(Result(row=row.name, contestant=contestant, turn=turn, figures=figures))
                    print(
                        f"{row.title:14}{contestant:30}{figures.rate:8.1f} tok/s  TTFT p95 {figures.ttft.p95:7.2f} s  "
                        f"{figures.errors} errors  ({time.monotonic() - began:.0f} s)",
                        flush=True,
                    )
            results.save(path)


def _order(row: Row, turn: int) -> list[str]:
    names = list(row.entries)
    return names if turn % 2 == 0 else names[::-1]


def contest_spec(kv: KvMode, threads: int, shape: str = "0.5b") -> ModelSpec:
    """The one configuration of all rows; makes the model unless it is there. Both sides take all GPUs they see."""
    return ModelSpec(
        id=MODEL,
        path=str(shape_model.build(shape_model.SHAPES[shape]).resolve()),
        parallel=SLOTS,
        n_ctx=N_CTX,
        kv=kv,
        threads=threads,
        threads_batch=threads,
        preload=True,
    )


def setting(spec: ModelSpec, version: str) -> dict[str, str]:
    """What a reader must know of the machine and the run."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    return {
        "machine": f"{cpu or platform.machine()}, {os.cpu_count()} processors, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {_gpus()}",
        "model": Path(spec.path).stem,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"`{shlex.join(['python', '-m', 'bench.compare', *sys.argv[1:]])}`",
        "versions": f"llama-cpp-python {version} on both sides, Python {platform.python_version()}",
        "both": f"{spec.n_ctx} cells, {spec.parallel} slots, batches of {spec.n_batch} and {spec.n_ubatch}, "
        f"{spec.threads} threads",
        "ours": f"kv {spec.kv}",
    }


def _gpus() -> str:
    try:
        driver = open_nvml()
    except NvmlError:
        return "no GPU"
    names = ", ".join(gpu.name for gpu in driver.gpus())
    driver.close()
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="comma-separated names; default all")
    parser.add_argument("--repeat", type=int, default=1, help="whole rounds; the report has medians")
    parser.add_argument("--shape", choices=shape_model.SHAPES, default="0.5b", help="the model's")
    parser.add_argument("--kv", choices=get_args(KvMode), default="auto", help="the appliance's KV mode")
    parser.add_argument("--threads", type=int, default=physical_cores(), help="of both sides")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("--write", action="store_true", help=f"write the tables into {DOCUMENT}")
    volume.add_argument("--quick", action="store_true", help="hardly any work: does every part run?")
    return parser.parse_args()


def physical_cores() -> int:
    """Or fewer, where this process may not run on all of them."""
    allowed = len(os.sched_getaffinity(0))
    return min(psutil.cpu_count(logical=False) or allowed, allowed)


def main() -> None:
    """Builds, measures and reports."""
    end_cleanly_on_sigterm()
    arguments = _arguments()
    source = fetch()
    spec = contest_spec(arguments.kv, arguments.threads, arguments.shape)
    rows = all_rows(spec, llama_build.build(source), quick=arguments.quick)
    if arguments.rows:
        known = {row.name: row for row in rows}
        wanted = arguments.rows.split(",")
        if unknown := [name for name in wanted if name not in known]:
            sys.exit(f"no row {', '.join(unknown)}; rows: {', '.join(known)}")
        rows = [known[name] for name in wanted]
    results = Results(setting=setting(spec, source.version), results=[])
    run(rows, arguments.repeat, results, BUILD / ("results-quick.json" if arguments.quick else "results.json"))
    section = markdown(results, rows)
    print(f"\n{section}")
    if arguments.write:
        write(DOCUMENT, section)


if __name__ == "__main__":
    main()
